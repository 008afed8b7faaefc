"""Reading the folder of a run: settings, configurations, curves, scores, costs.

A run is what a pipeline's script left under `snapshots/`, finished or not, which its record tells; or the folder of a
single training.
"""
import dataclasses
import pathlib
from typing import NamedTuple

import yaml

from spml.errors import DataError
from spml.evaluation.scores import read_score
from spml.pipeline.record import lacks_truth, read_record
from spml.utils.formats import read_json_lines

# Settings that only say where things are: not a difference between runs that a reader looks for.
_PLACES = ('SNAPSHOT_ROOT', 'RUN_NAME')
_TRAININGS = ('train_cam.py', 'train.py', 'train_classifier.py')
_LABELLING = ('prepare_cam.py', 'pseudo_label.py', 'cam_label.py')  # that label training images; the last in older runs
_PREDICTING = 'inference.py'


class LabelMaps(NamedTuple):
    """Label maps that a run made, `<folder>/<image name>.png`, with the list of their images and of their truth."""

    title: str
    folder: pathlib.Path
    image_list: pathlib.Path
    truth_list: pathlib.Path | None


class Score(NamedTuple):
    """One score of a run: `summary` is the dictionary of `evaluation.scores.score_summary`."""

    name: str
    title: str
    summary: dict


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run's folder holds."""

    path: pathlib.Path
    name: str  # what the page calls it
    made: str  # one line on when and with which code it was made; '' where it is not known
    settings: dict  # of the pipeline, as text
    configs: dict  # from a training to its configuration, a dict from `section.key` to values
    metrics: dict  # from a training to the rows of its `metrics.jsonl`
    scores: list  # of Score, in the order of the pipeline
    costs: dict  # from a stage to its StageRecord
    predictions: LabelMaps | None  # the last scored ones of validation images; without scores the last of any images
    pseudo_labels: LabelMaps | None  # of training images, the last scored ones if there are any
    prototypes: list  # folders that prototype.py wrote
    data_dir: pathlib.Path | None  # folder that the paths in the lists start from

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

    @property
    def has_no_truth(self):
        """Whether it was told that there is nothing to score against."""
        return not self.scores and lacks_truth(self.settings)

    def described(self):
        """Return all that was set, as one dict from a readable key to a value."""
        flat = {key: value for key, value in self.settings.items() if key not in _PLACES}
        for training, config in self.configs.items():
            flat |= {f'{training}: {key}': value for key, value in config.items()}
        # The same place within each run does not tell them apart.
        flat = {key: value.replace(str(self.path), 'RUN') if isinstance(value, str) else value
                for key, value in flat.items()}
        return flat | ({'made': self.made} if self.made else {})


def read_runs(paths):
    """Return the `Run`s of folders, each called by the folder's name, with as many above it as tell it from the rest.

    DataError: a folder is missing, holds nothing of a run, or holds a damaged file.
    """
    resolved = [pathlib.Path(path).resolve() for path in paths]
    twice = [path for path in resolved if resolved.count(path) > 1]
    if twice:
        raise DataError(f'{twice[0]}: given twice; name each run once')
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [_read_run(path, '/'.join(path.parts[-depth:])) for path in resolved]


def _read_run(path, name):
    if not path.is_dir():
        raise DataError(f'{path}: no such folder; name the folder of a run, such as snapshots/demo/spml_scribble')
    if (path / 'metrics.jsonl').is_file():
        return Run(path, name, '', {}, *_read_trainings([path]), [], {}, None, None, [], None)
    record = read_record(path)
    by_script = {}
    for stage in record.stages:
        by_script.setdefault(pathlib.PurePath(stage.script).name, []).append(stage)
    trainings = [stage.output for script in _TRAININGS for stage in by_script.get(script, [])]
    scored = [stage for stage in record.stages if stage.title and stage.output.is_file()]
    configs, metrics = _read_trainings(folder for folder in trainings if (folder / 'metrics.jsonl').is_file())
    if not metrics and not scored:
        raise DataError(f'{path}: holds neither a training nor a score yet; run its script to the end')
    pseudo = {stage.output / 'semantic_gray': stage.options for script in _LABELLING
              for stage in by_script.get(script, [])}
    # What is scored comes last, for the last is shown.
    made = [stage for script in (*_LABELLING, _PREDICTING) for stage in by_script.get(script, []) if stage.is_done]
    maps = [maps for stage in made if (maps := _unscored_maps(path, stage))]
    maps += [maps for stage in scored if (maps := _label_maps(path, stage, pseudo))]
    data_dirs = [pathlib.Path(folder) for stage in record.stages if (folder := stage.options.get('--data_dir'))]
    return Run(path, name, record.made, record.settings, configs, metrics,
               [Score(stage.name, stage.title, read_score(stage.output)) for stage in scored],
               {stage.name: stage for stage in record.stages if stage.seconds},
               next((found for found in reversed(maps) if found.folder not in pseudo), None),
               next((found for found in reversed(maps) if found.folder in pseudo), None),
               [pathlib.Path(stage.options['--save_dir']) for stage in by_script.get('prototype.py', [])],
               next((folder for folder in data_dirs if folder.is_dir()), None))


def _label_maps(path, stage, pseudo):
    """Return the LabelMaps that a stage scored, or None where they are gone; `pseudo` as in `_read_run`."""
    folder = pathlib.Path(stage.options['--pred_dir'])
    truth_list = _own_copy(path, stage.options.get('--gt_list'))
    image_list = _own_copy(path, pseudo[folder]['--data_list']) if folder in pseudo else truth_list
    return LabelMaps(stage.title, folder, image_list, truth_list) if folder.is_dir() and image_list else None


def _unscored_maps(path, stage):
    """Return the LabelMaps that a stage made, without truth, or None where they are gone."""
    folder, image_list = stage.output / 'semantic_gray', _own_copy(path, stage.options.get('--data_list'))
    return LabelMaps(stage.name, folder, image_list, None) if folder.is_dir() and image_list else None


def _own_copy(path, list_path):
    original = pathlib.Path(list_path or path)
    paths = (path / 'lists' / f'input_{original.name}', original)
    return next((path for path in paths if path.is_file()), None)


def _read_trainings(folders):
    folders = {folder.name: folder for folder in folders}
    return ({name: _read_config(folder / 'config.yaml') for name, folder in folders.items()},
            {name: [row for row in read_json_lines(folder / 'metrics.jsonl') if 'iteration' in row]
             for name, folder in folders.items()})


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
