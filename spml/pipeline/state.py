"""What earlier runs have left of each stage: the recipe it was begun with, whether it was finished, what it wrote.

`.stages/<stage>.json` in the folder of the run. An earlier version kept stamps, `.done/<stage>`: the words of the
command line, some with checksums of files. What such a stamp and the `config.yaml` in its folder say is compared
with today's recipe, and where they agree the result is taken over.
"""
import dataclasses
import pathlib
import shutil
import subprocess

from spml.config import load_config
from spml.pipeline.recipes import as_known_today, configuration, effective_keys
from spml.recipe import Recipe
from spml.utils.formats import read_json_or_none, write_json
from spml.utils.model_files import model_iterations


@dataclasses.dataclass(frozen=True)
class StageState:
    """What is known of a stage's result: its Recipe, and whether it was finished and is all there."""

    recipe: Recipe
    complete: bool


class States:
    """The states of the stages of a run, in its folder."""

    def __init__(self, run_dir):
        self.run_dir = pathlib.Path(run_dir)

    def read(self, stage, now):
        """Return the StageState of a plan.Stage, or None where it was never begun or its file is damaged.

        `now` is its Recipe of today, with whose keys the earlier one is read.
        """
        content = read_json_or_none(self._path(stage))
        try:
            recipe = Recipe.from_json(content['recipe'])
            is_there = bool(content['complete']) and _size(stage) >= content['size']
        except (KeyError, TypeError):
            return None
        is_there = is_there and all(path.exists() for path in stage.outputs) and _lists_itself(stage)
        return recipe and StageState(as_known_today(recipe, now), is_there)

    def was_finished(self, stage):
        """Whether a stage was complete once."""
        content = read_json_or_none(self._path(stage))
        return isinstance(content, dict) and content.get('complete') is True

    def write(self, stage, recipe, complete):
        """Note that a stage has begun, or is complete, with a recipe."""
        write_json(self._path(stage), {'recipe': recipe.to_json(), 'complete': complete, 'size': _size(stage)})
        for stamp in self._stamps(stage):
            stamp.unlink(missing_ok=True)

    def forget(self, stage):
        """Forget a stage, so that it runs as if for the first time."""
        for path in (self._path(stage), *self._stamps(stage)):
            path.unlink(missing_ok=True)

    def adopt(self, stage, recipe, write=True):
        """Take over what an earlier version, or a training by hand, has made of a stage.

        What the lists name, and weights, are taken as unchanged: nothing tells what they were. With `write` false, it
        is only compared with `recipe`, the Recipe of today. Returns None where there is nothing to take over; else ''
        and the stage has a state now, or what differs in words.
        """
        finished, begun = self._stamps(stage)
        stamp = finished if finished.is_file() else begun
        weights = stage.trains and model_iterations(stage.output)
        if self.read(stage, recipe) or not stage.output.exists() or not (stamp.is_file() or weights):
            return None
        difference = self._stamp_difference(stamp, stage, recipe) if stamp.is_file() else ''
        difference = difference or _configuration_difference(stage)
        if write and not difference:
            self.write(stage, recipe, complete=_size(stage) >= _expected_size(stage)
                       and (stamp is finished or not stamp.is_file()))
        return difference

    def clear(self, stage, keep):
        """Remove what an earlier run left of a stage, which would be taken for results of this one.

        Only below the folder of the run. Weights may have taken days: they are kept under another name. `keep`: its
        script decides which of its results may stay.
        """
        output = stage.output
        if not output.is_relative_to(self.run_dir) or output == self.run_dir:
            return
        if model_iterations(output):
            number = 1
            while (previous := output.with_name(f'{output.name}.previous-{number}')).exists():
                number += 1
            output.rename(previous)
        elif output.is_dir() and not keep:
            shutil.rmtree(output)
        elif output.is_file():
            output.unlink()

    def _stamp_difference(self, stamp, stage, recipe):
        """Return the first option or list of today that is not in the words of an old stamp; '' if none."""
        words = stamp.read_text(encoding='utf-8', errors='replace').splitlines()
        for option, value in recipe.values.items():
            given = [] if value is True else value if isinstance(value, list) else [value]
            if option in stage.options and not {option, *given} <= set(words):
                return f'{option} {" ".join(given)}'
        checksums = {word.rpartition('  # ')[2] for word in words if '  # ' in word}
        for option in filter(lambda option: option.endswith('_list'), stage.options):
            path = stage.path(option)
            # Lists in the folder of the run are its own, and name files by where it was.
            own = path.is_relative_to(self.run_dir)
            if checksums and not own and path.is_file() and _checksum(path) not in checksums:
                return f'{option} {path}: other content'
        return ''

    def _path(self, stage):
        return self.run_dir / '.stages' / f'{stage.name}.json'

    def _stamps(self, stage):
        return self.run_dir / '.done' / stage.name, self.run_dir / '.done' / f'{stage.name}.begun'


def _size(stage):
    """Return how much of a result is there: of a training its newest iteration, of a folder the number of files."""
    if stage.trains:
        return max(model_iterations(stage.output), default=-1)
    if stage.output.is_dir():
        return sum(path.is_file() for path in stage.output.rglob('[!.]*'))
    return int(stage.output.exists())


def _lists_itself(stage):
    """Whether the list that a stage writes names files where its output is now: the run may have been moved."""
    path = stage.path('--list_out')
    return path is None or str(stage.output.resolve()) in path.read_text(errors='replace')


def _expected_size(stage):
    """Return the least that a finished result of an earlier version comes to, see `_size`."""
    if stage.trains:
        return configuration(stage).train.max_iteration - 1
    data_list = stage.path('--data_list')
    return len(data_list.read_text(errors='replace').split('\n')) - 1 if data_list and data_list.is_file() else 1


def _checksum(path):
    with open(path, 'rb') as stream:
        return subprocess.run(['cksum'], stdin=stream, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607


def _configuration_difference(stage):
    """Return the first key in which the `config.yaml` of an old result differs from today's; '' if none."""
    path = stage.output / 'config.yaml'
    if not path.is_file() or stage.path('--cfg_path') is None:
        return ''
    # Images of a step: by a variable of the pipeline, or those of the one process of a classifier.
    before, now = (Recipe(effective_keys(stage, config, processes=1 if stage.trains else None))
                   for config in (load_config(path), configuration(stage)))
    return now.difference(as_known_today(before, now))
