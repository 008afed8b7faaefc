"""Reading the folder of a run: settings, configurations, curves, scores, costs.

A run is what a pipeline's script left under `snapshots/`, finished or not, or the folder of a single training.
"""
import dataclasses
import pathlib
import re
import shlex

import yaml

from spml.errors import DataError
from spml.evaluation.scores import read_score
from spml.utils.formats import read_json, read_json_lines
from spml.utils.usage import read_usage

# Settings that only say where things lie: no difference between runs that a reader looks for.
_PLACES = ('SNAPSHOT_ROOT', 'RUN_NAME')


@dataclasses.dataclass(frozen=True)
class Score:
    """One benchmark's result: `summary` is the dictionary of `evaluation.report.score_summary`."""

    name: str
    title: str
    summary: dict


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes:
        path: the folder.
        name: what the page calls it.
        made: one line on when and with which code it was made; '' where it is not known.
        settings: dict of the pipeline's settings, as text.
        configs: dict from a training to its configuration, a dict from `section.key` to values.
        metrics: dict from a training to the rows of its `metrics.jsonl`.
        scores: list of Score, in the order of the pipeline.
        usage: what `utils.usage.read_usage` returns.
    """

    path: pathlib.Path
    name: str
    made: str
    settings: dict
    configs: dict
    metrics: dict
    scores: list
    usage: dict

    @property
    def class_names(self):
        """The names of the classes, as far as any configuration or score tells them."""
        for config in self.configs.values():
            if config.get('dataset.class_names'):
                return [str(name) for name in config['dataset.class_names']]
        return list(self.scores[-1].summary.get('iou', {})) if self.scores else []

    @property
    def color_map(self):
        """The classes' colours, a list of [R, G, B], where the configuration has its own; else None."""
        found = (config.get('dataset.color_map') for config in self.configs.values())
        return next((colours for colours in found if colours), None)

    def list_path(self, setting):
        """Return the list file of a setting (`VAL_LIST` ...): the run's own copy, else the original, else None."""
        if not self.settings.get(setting):
            return None
        original = pathlib.Path(self.settings[setting])
        paths = (self.path / 'lists' / f'input_{original.name}', original)
        return next((path for path in paths if path.is_file()), None)

    def labels_of(self, score):
        """Return the folder of the label maps that a score is of, or None."""
        name = score.name.removeprefix('score_')
        folders = (self.path / f'inference_{name}', self.path / f'{name}_labels')
        return next((folder / 'semantic_gray' for folder in folders if (folder / 'semantic_gray').is_dir()), None)

    @property
    def last_prediction(self):
        """The folder of the last scored predictions of validation images, or None."""
        return next((folder for folder in map(self.labels_of, reversed(self.scores))
                     if folder is not None and folder.parent.name.startswith('inference_')), None)

    @property
    def pseudo_labels(self):
        """The folder of the last pseudo labels, or None."""
        return next((folder for folder in map(self.labels_of, reversed(self.scores))
                     if folder is not None and folder.parent.name.endswith('_labels')), None)

    def described(self):
        """Return all that was set, as one dict from a readable key to a value."""
        flat = {key: value for key, value in self.settings.items() if key not in _PLACES}
        for training, config in self.configs.items():
            flat |= {f'{training}: {key}': value for key, value in config.items()}
        # The same place in each run is no difference between them.
        flat = {key: value.replace(str(self.path), 'RUN') if isinstance(value, str) else value
                for key, value in flat.items()}
        return flat | ({'made': self.made} if self.made else {})


def read_runs(paths):
    """Read the folders of runs.

    Returns:
        list of Run; each is called by its folder's name, with as many folders above it as make it differ from the rest.

    Raises:
        DataError: a folder is missing, holds nothing of a run, or holds a damaged file.
    """
    resolved = [pathlib.Path(path).resolve() for path in paths]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise DataError(f'{path}: given twice; name each run once')
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [_read_run(path, '/'.join(path.parts[-depth:])) for path in resolved]


def _read_run(path, name):
    if not path.is_dir():
        raise DataError(f'{path}: no such folder; name the folder of a run, such as snapshots/demo/spml_scribble')
    trainings = [path] if (path / 'metrics.jsonl').is_file() else sorted(
        (file.parent for file in path.glob('*/metrics.jsonl') if '.previous-' not in file.parent.name),
        key=lambda folder: (folder.name != 'stage1', folder.name))
    made, settings, stages = _read_run_text(path / 'run.txt')
    scores = _read_scores(path, stages)
    if not trainings and not scores:
        raise DataError(f'{path}: holds neither a training (metrics.jsonl) nor scores/*.json; name the folder of a run')
    return Run(path, name, made, settings,
               {folder.name: _read_config(folder / 'config.yaml') for folder in trainings},
               {folder.name: [row for row in read_json_lines(folder / 'metrics.jsonl') if 'iteration' in row]
                for folder in trainings},
               scores, read_usage(path / 'usage.jsonl'))


def _read_run_text(path):
    """Return what `run.txt` says: when and with what the run was last called, its settings, and its stages in order."""
    if not path.is_file():
        return '', {}, []
    text = path.read_text(encoding='utf-8', errors='replace')
    heading, _, last = text.rpartition('\n-- ')[2].removeprefix('-- ').partition('\n')
    settings = {name: _unquote(value) for name, value in re.findall(r'^([A-Z_]+)=(.*)$', last, re.MULTILINE)}
    return heading, settings, list(dict.fromkeys(re.findall(r'^\[(\w+)\] ', text, re.MULTILINE)))


def _unquote(text):
    """Return the word that bash's `printf %q` wrote."""
    try:
        return ''.join(shlex.split(text))
    except ValueError:
        return text


def _read_config(path):
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        sections = {key: value if isinstance(value, dict) else {'': value} for key, value in content.items()}
    except (yaml.YAMLError, ValueError, AttributeError):
        raise DataError(f'{path}: not a configuration; write it again, or remove it') from None
    return {f'{section}.{key}'.rstrip('.'): value for section, values in sections.items()
            for key, value in values.items()}


def _read_scores(path, stages):
    """Return the scores, in the order and with the titles of `summary.json`, or else in that of the stages."""
    files = {file.stem: file for file in sorted((path / 'scores').glob('*.json'))}
    titles = _read_titles(path / 'summary.json')
    order = [name for name in [*titles, *stages, *files] if name in files]
    return [Score(name, titles.get(name) or name.removeprefix('score_').replace('_', ' '), read_score(files[name]))
            for name in dict.fromkeys(order)]


def _read_titles(path):
    if not path.is_file():
        return {}
    rows = read_json(path, 'remove it')
    try:
        return {row['name']: row['title'] for row in rows}
    except (TypeError, KeyError):
        raise DataError(f'{path}: not what summary.py writes; remove it') from None
