"""What each stage reads, stated in one place, and what earlier runs have left of it.

Configuration keys that matter to the result, lists with the files that they name, files and folders given as
options: by content. All other options count as they are written, except those that only say where something is or
how it is launched.

`.stages/<stage>.json` in the folder of the run holds the recipe that a stage was begun with, whether it was finished
and how much it wrote. An earlier version kept stamps, `.done/<stage>`: the words of the command line, some with
checksums of files. What such a stamp and the `config.yaml` in its folder say is compared with today's recipe, and where
they agree the result is taken over.
"""
import dataclasses
import pathlib
import shutil
import subprocess

from spml.config import effective, load_config
from spml.config.schema import REQUIRED, SCHEMA, Derived
from spml.data.lists import read_list
from spml.names import PRETRAINED_NAMES, RELATIONS
from spml.recipe import Recipe, bar_of_reading, combine
from spml.utils.files import model_iterations, model_path, weights_path
from spml.utils.formats import read_json_or_none, write_json

# The result of each script, as `config.effective` knows it.
RESULTS = {'train.py': 'embedding', 'train_classifier.py': 'classifier', 'prototype.py': 'prototypes',
         'inference.py': 'inference', 'pseudo_label.py': 'pseudo labels', 'benchmark_by_mIoU.py': 'classes',
         'benchmark_by_instance.py': 'classes', 'contact_sheet.py': 'classes', 'train_cam.py': 'cam', 'cam.py': 'cams',
         'prepare_cam.py': 'classes'}
# How many columns of its list a script reads: image, semantic, instance; and which read tags and kind as well.
_COLUMNS = {'train.py': 3, 'train_classifier.py': 2, 'prototype.py': 2, 'inference.py': 1, 'pseudo_label.py': 2,
            'train_cam.py': 2, 'cam.py': 2, 'prepare_cam.py': 2}
_READ_TAGS = 'train.py', 'pseudo_label.py', 'train_cam.py', 'cam.py', 'prepare_cam.py'
_BEFORE = {'prepare_cam.py': 'cam_label.py'}  # names in the records of runs that began before they changed
_LISTS = ('--data_list', '--gt_list', '--train_list', '--full_list', '--val_list')
_WITHOUT_EFFECT = frozenset((
    '--cfg_path', '--set', '--data_dir', '--gt_dir', '--save_dir', '--snapshot_dir', '--json', '--out', '--list_out',
    '--num_workers', '--num_processes', '--device', '--resume', '--overwrite', '--accept_changes', '--label_divisor',
    '--embedding'))


def configuration(stage):
    """Return the checked configuration of a stage, or None for one that takes none; ConfigError where it is wrong."""
    path = stage.path('--cfg_path')
    return load_config(path, stage.overrides) if path else None


def recipe_of(stage, digests, run_dir=None, processes=None):
    """Return the Recipe of a stage, as of now; SpmlError: the configuration or a list cannot be used.

    Args:
        stage, digests: plan.Stage, recipe.FileDigests.
        run_dir: folder of the run, which may be moved: files in it are known by their place in it.
        processes: of a training in which each takes `train.batch_size` images: their number. Else None.
    """
    script = pathlib.PurePath(stage.script).name
    values, files = {'script': _BEFORE.get(script, script)}, {}
    config = configuration(stage)
    if config is not None:
        values |= effective_keys(stage, config)
    if processes is not None:
        values['processes'] = processes
    for option, value in stage.options.items():
        path = stage.path(option)
        if option in _LISTS and path:
            files |= _listed(stage, option, path, _columns(stage, script, config), script in _READ_TAGS,
                             digests, run_dir)
        elif option not in _WITHOUT_EFFECT:
            if path and path.is_absolute():
                files[option] = digests(path)
            else:
                values[option] = value
    return Recipe(values, files | _weights(stage, config, digests))


def effective_keys(stage, config, **narrower):
    """Return the keys of a configuration that matter to a stage, as `config.effective` does with further `narrower`."""
    options, result = stage.options, RESULTS.get(pathlib.PurePath(stage.script).name, 'embedding')
    if not stage.trains:
        by_retrieval = 'retrieval' in (options.get('--source'), options.get('--predictor'))
        narrower |= {'multi_scale': '--multi_scale' in options or options.get('--source') == 'retrieval',
                     'whole_image': '--source' in options and not by_retrieval,
                     'clusters': '--kmeans_num_clusters' in options,
                     'head': 'softmax' in options.get('--source', options.get('--predictor', ''))}
    keys = effective(config, result, **narrower)
    if keys.get('network.pretrained', '') not in ('', *PRETRAINED_NAMES):
        del keys['network.pretrained']  # the content of the weights counts
    images = keys.pop('train.total_batch_size', None), keys.pop('train.batch_size', None)
    return {**keys, 'train.batch_size': images[0] or f'{images[1]} each'} if any(images) else keys


def as_known_today(before, now):
    """Return a recipe of an earlier start with the keys that today's has: versions differ in which keys there are.

    A version that did not know a key did what its default says; where the default depends on others, today's value
    stands for it. A key that only the earlier version knew says nothing: what puts it in or out of use is another key
    or an option, which both have.
    """
    def is_key(name):
        return not name.startswith('--') and name != 'script'

    def value_then(name, value):
        default = SCHEMA[name].default if name in SCHEMA else REQUIRED
        return value if default is REQUIRED or isinstance(default, Derived) else default

    values = {name: value for name, value in before.values.items() if name in now.values or not is_key(name)}
    added = {name: value_then(name, value) for name, value in now.values.items()
             if is_key(name) and name not in values}
    return Recipe(values | added, before.files)


def _columns(stage, script, config):
    if stage.options.get('--source') == 'densepose_random_walk':
        return 3
    if script == 'train.py' and all(config.train[f'{name}_loss_types'] == 'none' for name in RELATIONS):
        return 2  # without relations nothing is learned from regions
    return _COLUMNS.get(script, 2)


def _listed(stage, option, path, columns, with_tags, digests, run_dir):
    """Return the digests of a list's lines and of the files in its first columns, tags and kinds if they are read."""
    data_dir = stage.path('--data_dir') or stage.path('--gt_dir') or path.parent
    if not (path.is_file() and data_dir.is_dir()):
        return {f'lines of {option}': ''}

    def name(field):
        place = pathlib.PurePath(field)
        return str(place.relative_to(run_dir)) if run_dir and place.is_relative_to(run_dir) else field

    first = 1 if option == '--gt_list' else 0  # the images of a list of truths are not read
    kept = [([name(field) for field in (*entry.fields[first:columns], *entry.fields[3:] * with_tags)],
             (entry.image, entry.semantic, entry.regions)[first:columns])
            for entry in read_list(path, data_dir, unique_names=False)]
    files = {f'lines of {option}': combine(' '.join(fields) for fields, _ in kept)}
    return files | {field: digests(file) for fields, paths in bar_of_reading(kept)
                    for field, file in zip(fields, paths, strict=False) if file is not None}


def _weights(stage, config, digests):
    """Return the digest of the weights that a stage starts from or computes with; {} where there are none."""
    if config is None or RESULTS[pathlib.PurePath(stage.script).name] == 'classes':
        return {}
    if stage.trains:
        name = config.network.pretrained or str(stage.path('--embedding') or '')
        path = weights_path(name) if name not in ('', *PRETRAINED_NAMES) else None
        return {'weights': digests(path)} if path else {}
    if stage.path('--checkpoint'):
        return {}  # an option like any other
    path = model_path(stage.path('--snapshot_dir'), config.train.max_iteration - 1)
    return {'weights': digests(path)}


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
        is_there = is_there and all(path.exists() for path in stage.outputs)
        listing = stage.path('--list_out')
        if is_there and listing:  # of files where its output is now, unless the run was moved
            is_there = str(stage.output.resolve()) in listing.read_text(errors='replace')
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
