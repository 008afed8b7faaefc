"""Sweeps: a grid of settings as a list of runs, and the table of what they scored.

A YAML file says what to run, a pipeline's script or a training, and which values of which keys to try. Every
combination with every seed is a run in a folder of its own, named after its values, so a grid can grow later without
running anything twice.

    out: snapshots/sweeps/co_occurrence               # folder for the runs and the tables
    pipeline: bashscripts/voc12/train_spml_scribble.sh
    settings: {DATASET: demo}                         # the script's, as in the environment
    set:                                              # keys of the embedding's configuration: a list of values each
      train.sem_occ_loss_types: [segsort, none]
    set_classifier: {}                                # of the classifier's
    set_both: {}                                      # of both, for example network.embedding_dim
    seeds: [0, 1, 2]
    scores: [score_single, score_final]               # what the table shows (default: every score)

Instead of a pipeline, `train` may hold the command line of one training, a list such as [pyscripts/train/train.py,
--cfg_path, FILE, --data_dir, DIR, --data_list, FILE]; the folder, the overrides and `--resume` are added. Its scores
are those of the last line of `metrics.jsonl`.
"""
import dataclasses
import hashlib
import itertools
import json
import pathlib
import re

import yaml

from spml.config import check_override
from spml.errors import ConfigError, DataError
from spml.evaluation.tables import mean_and_spread, plus_minus, to_csv, to_markdown
from spml.utils.formats import read_json, read_json_lines, write_text

_GRIDS = ('set', 'set_classifier', 'set_both')
_KEYS = ('out', 'pipeline', 'settings', 'train', *_GRIDS, 'seeds', 'scores')
# What a pipeline takes from the sweep itself.
_OWN_SETTINGS = ('RUN_NAME', 'SNAPSHOT_ROOT')
# Longer names of folders are cut: file systems allow 255 bytes, and files are named after folders.
_LONGEST_NAME = 120


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        values: dict from a column of the table to the value tried, without the seed.
        seed: its seed.
        overrides: dict from a grid (`set`, `set_classifier`) to a tuple of `section.key=value`.
    """

    name: str
    values: dict
    seed: int
    overrides: dict


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the YAML file asks for.

    Attributes:
        out: folder.
        pipeline: path of a script, or None.
        settings: dict of its settings, as text.
        train: list of words of a training's command line, or None.
        runs: list of SweepRun.
        scores: names of the scores to show, or None for all.
    """

    out: pathlib.Path
    pipeline: pathlib.Path | None
    settings: dict
    train: list | None
    runs: list
    scores: list | None


def read_sweep(path):
    """Read the YAML file of a sweep.

    Raises:
        ConfigError: it cannot be read, a key is unknown or missing, or a value is none that its key can take.
    """
    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError(f'{path}: {error.strerror}; give a YAML file, see `sweep.py --help`') from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from None
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: expected lines `key: value` with the keys {", ".join(_KEYS)}')
    unknown = [str(key) for key in content if key not in _KEYS]
    if unknown:
        raise ConfigError(f'{path}: unknown key {unknown[0]}; known are {", ".join(_KEYS)}')
    _require(path, 'out', isinstance(content.get('out'), str) and content['out'], 'a folder')
    if bool(content.get('pipeline')) == bool(content.get('train')):
        raise ConfigError(f'{path}: give either pipeline, a script of bashscripts/, or train, a command line')
    seeds = content.get('seeds', [0])
    _require(path, 'seeds', _is_list(seeds) and all(type(seed) is int for seed in seeds), 'a list of integers')
    scores = content.get('scores')
    _require(path, 'scores', scores is None or _is_list(scores), 'a list of names')
    return Sweep(pathlib.Path(content['out']), _pipeline(path, content), _settings(path, content),
                 _train(path, content), _expand(path, content, seeds), scores and [str(name) for name in scores])


def _pipeline(path, content):
    if not content.get('pipeline'):
        return None
    script = pathlib.Path(str(content['pipeline']))
    _require(path, 'pipeline', script.is_file(), f'a script, but {script} is no file here')
    return script


def _settings(path, content):
    settings = content.get('settings') or {}
    _require(path, 'settings', isinstance(settings, dict) and not set(settings) & set(_OWN_SETTINGS)
             and not (settings and content.get('train')),
             f'NAME: value of a pipeline, without {" and ".join(_OWN_SETTINGS)}, which the sweep sets')
    return {str(name): _text(value) for name, value in settings.items()}


def _train(path, content):
    words = content.get('train')
    if not words:
        return None
    _require(path, 'train', _is_list(words) and pathlib.Path(str(words[0])).is_file(),
             'a list of words that begins with a script, such as [pyscripts/train/train.py, --cfg_path, FILE]')
    _require(path, 'train', not {'--snapshot_dir', '--resume'} & set(map(str, words)),
             'a command line without --snapshot_dir and --resume, which the sweep adds')
    return [str(word) for word in words]


def _expand(path, content, seeds):
    """Return the runs: every combination of the values of every grid, with every seed."""
    axes = []
    for grid in _GRIDS:
        keys = content.get(grid) or {}
        _require(path, grid, isinstance(keys, dict) and all(map(_is_list, keys.values())),
                 'section.key: [value, value, ...], a list of values for each key')
        _require(path, grid, 'seed' not in keys, 'no seed, which has a list of its own, seeds')
        _require(path, grid, not keys or not content.get('train') or grid == 'set', 'absent: a training has only `set`')
        axes += [(grid, str(key), values) for key, values in keys.items()]
    columns = _columns([(grid, key) for grid, key, _ in axes])
    runs, names = [], set()
    for values in itertools.product(*(values for _, _, values in axes)):
        overrides = {'set': [], 'set_classifier': []}
        for (grid, key, _), value in zip(axes, values, strict=True):
            override = f'{key}={_text(value)}'
            check_override(override)
            _require(path, grid, override.split() == [override], f'values without blanks, unlike {override!r}')
            for target in overrides if grid == 'set_both' else (grid,):
                overrides[target].append(override)
        tried = dict(zip(columns, values, strict=True))
        for seed in seeds:
            run = SweepRun(_name({**tried, 'seed': seed}), tried, seed, {
                grid: (*items, f'seed={seed}') for grid, items in overrides.items()})
            _require(path, 'set', run.name not in names, f'each combination once, but there are two of {run.name}')
            names.add(run.name)
            runs.append(run)
    return runs


def _columns(keys):
    """Return short names of (grid, key) pairs: the key without its section, where that tells them apart."""
    short = [('classifier ' if grid == 'set_classifier' else '') + key.rpartition('.')[2] for grid, key in keys]
    return [name if short.count(name) == 1 else f'{grid} {key}' for name, (grid, key) in zip(short, keys, strict=True)]


def _name(values):
    """Return a folder's name for some values; what it cannot hold is replaced, and told apart by a checksum."""
    plain = ','.join(f'{key}={"x".join(map(_text, value)) if isinstance(value, list) else _text(value)}'
                     for key, value in values.items()).replace(' ', '_')
    name = re.sub(r'[^\w.,=+-]', '-', plain)[:_LONGEST_NAME]
    return name if name == plain else f'{name}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}'


def _text(value):
    """Return a value of the YAML file as `--set` and the environment take it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))


def _is_list(value):
    return isinstance(value, list) and len(value) > 0


def _require(path, key, condition, expected):
    if not condition:
        raise ConfigError(f'{path}: {key}: expected {expected}')


def read_results(sweep, run):
    """Return a dict from a score's name to its value: mean IoU in % of a pipeline, the last metrics of a training.

    Raises:
        DataError: a file of the run is damaged, or the run has not the scores that the sweep is to show.
    """
    folder = sweep.out / run.name
    if sweep.train:
        rows = read_json_lines(folder / 'metrics.jsonl')
        results = {key: value for key, value in (rows[-1] if rows else {}).items() if key not in ('iteration', 'lr')}
    else:
        again = 'run the stage that writes it again'
        files = sorted((folder / 'scores').glob('*.json'), key=lambda file: file.stat().st_mtime_ns)
        scores = {file.stem: read_json(file, again) for file in files}
        if any(not isinstance(score, dict) or 'mean_iou' not in score for score in scores.values()):
            raise DataError(f'{folder / "scores"}: a file holds no "mean_iou"; {again}')
        results = {name: 100 * score['mean_iou'] for name, score in scores.items()}
    missing = [name for name in sweep.scores or [] if name not in results]
    if missing or not results:
        raise DataError(f'{folder}: has no score {missing[0] if missing else "at all"}; it has '
                        f'{", ".join(results) or "none"}')
    return {name: results[name] for name in sweep.scores or results}


def write_tables(sweep, results):
    """Write `table.csv`, `table.md` and `runs.csv` and return the Markdown.

    Args:
        sweep: Sweep.
        results: dict from the name of a finished run to what `read_results` returned.

    Returns:
        The table, a row a combination: the values, how many seeds are done, and each score's mean ± spread over them.
    """
    columns = list(sweep.runs[0].values)
    scores = list(dict.fromkeys(name for values in results.values() for name in values))
    exact, shown = [], []
    for values, group in itertools.groupby(sweep.runs, key=lambda run: run.values):
        done = [results[run.name] for run in group if run.name in results]
        cells = [_text(value) for value in values.values()]
        figures = [mean_and_spread([result[name] for result in done if name in result]) for name in scores]
        exact.append([*cells, len(done), *(number for pair in figures for number in pair)])
        shown.append([*cells, len(done), *(plus_minus(*pair) for pair in figures)])
    write_text(sweep.out / 'table.csv', to_csv(
        [*columns, 'seeds', *(f'{name}_{kind}' for name in scores for kind in ('mean', 'std'))], exact))
    text = to_markdown([*columns, 'seeds', *(name.removeprefix('score_') for name in scores)], shown)
    write_text(sweep.out / 'table.md', text)
    write_text(sweep.out / 'runs.csv', to_csv(['run', *columns, 'seed', *scores], [
        [run.name, *(_text(value) for value in run.values.values()), run.seed,
         *(results.get(run.name, {}).get(name) for name in scores)] for run in sweep.runs]))
    return text
