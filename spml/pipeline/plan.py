"""What a pipeline's bash script lists: its settings, and its stages in order.

The list comes as words that end in NUL: first the number of words of an item, then these words,
`setting NAME VALUE`, `configurations FOLDER CLASSIFIER PUBLISHED [JOINT]` or `stage TITLE NAME OUTPUT SCRIPT
ARGUMENT...`, in any order. Arguments that begin with @ stand for what `settings` says.
"""
import dataclasses
import pathlib

from spml.errors import SpmlError
from spml.pipeline.record import options_of
from spml.pipeline.settings import check_values, expand, resolve_settings


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage as listed."""

    name: str  # of the stage, of its log and of its files
    title: str  # of its line in the closing table, '' for a stage that is not a score
    output: pathlib.Path  # file or folder that it writes
    script: str  # of the project, relative to its folder, or absolute
    arguments: list  # of words

    @property
    def options(self):
        """Dict from option to value, list of values, or True for a flag."""
        return options_of(self.arguments)

    def path(self, option):
        """Return the path that an option names, or None."""
        value = self.options.get(option)
        return pathlib.Path(value) if isinstance(value, str) else None

    @property
    def overrides(self):
        """The `section.key=value` of its `--set` options, in order."""
        value = self.options.get('--set', [])
        return [value] if isinstance(value, str) else list(value)

    @property
    def outputs(self):
        """Every path that it writes."""
        return [self.output, *filter(None, map(self.path, ('--list_out', '--json', '--out', '--save_dir',
                                                           '--snapshot_dir' if self.trains else None)))]

    @property
    def trains(self):
        """Whether it is a training: resumed rather than begun again, and never discarded."""
        return pathlib.PurePath(self.script).name in ('train.py', 'train_classifier.py', 'train_cam.py')

    @property
    def is_costly(self):
        """Whether its result is made again only if the user says so: weights, and data that all else is made from."""
        return self.trains or pathlib.PurePath(self.script).name == 'make_synthetic.py'

    def reads_from(self, paths):
        """Whether one of its options names something at or below one of these paths."""
        own = set(self.outputs)
        return any(value not in own and any(value.is_relative_to(path) or path.is_relative_to(value) for path in paths)
                   for option in self.options if (value := self.path(option)) is not None and value.is_absolute()
                   and option not in ('--data_dir', '--gt_dir', '--cfg_path'))


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of a run, dict from name to text, and its list of Stage."""

    settings: dict
    stages: list

    @property
    def forced(self):
        """The stages that FORCE asks to run again, the one it names and all after it; SpmlError: there is none such."""
        wanted, names = self.settings.get('FORCE'), [stage.name for stage in self.stages]
        if not wanted:
            return []
        if wanted not in names:
            raise SpmlError(f'FORCE={wanted}: no such stage; stages: {" ".join(names)}')
        return self.stages[names.index(wanted):]


def read_plan(stream):
    """Return the Plan that a binary stream holds; SpmlError where a setting or a word in it cannot be used."""
    words = stream.read().decode(errors='surrogateescape').split('\0')[:-1]
    items = {'setting': [], 'configurations': [], 'stage': []}
    while words:
        count = int(words[0])
        items[words[1]].append(words[2:count + 1])
        words = words[count + 1:]
    settings, meanings = dict(items['setting']), {}
    check_values(settings)
    for names in items['configurations']:
        settings, meanings = resolve_settings(settings, *names)
    return Plan(settings, [Stage(name, title, pathlib.Path(output), script, expand(arguments, meanings, output))
                           for title, name, output, script, *arguments in items['stage']])
