"""Sweeps: named runs and a grid of settings, read from a YAML file as a list of runs.

The file says what to run, a pipeline's script or a training, and what to try. Every named run with every combination of
the grid's values and every seed is a run in a separate folder, so a sweep can grow later without making anything
twice.

    out: snapshots/sweeps/co_occurrence               # folder for the runs and the tables
    pipeline: bashscripts/voc12/train_spml_scribble.sh
    settings: {DATASET: demo}                         # the script's, as in the environment
    set:                                              # keys of the embedding's configuration
      train.sem_occ_loss_types: [segsort, none]       # a list: the values to try
      train.max_iteration: 500                        # anything else: the value of every run
    set_classifier: {}                                # of the classifier's
    set_both: {}                                      # of both, for example network.embedding_dim
    runs:                                             # named runs, each with what it changes
      baseline:                                       # RUN_NAME is baseline_SEED
        title: cross-entropy alone                    # its row in the table (default: the name)
        pipeline: bashscripts/voc12/train_cross_entropy.sh
        settings: {LABELS: point}
        set: {train.crop_size: [48, 48]}              # the values themselves
    seeds: [0, 1, 2]
    scores: {score_final: multi scale + CRF}          # columns of the table with their titles, or a list (default: all)

Instead of a pipeline, `train` may hold the command line of one training, a list such as [pyscripts/train/train.py,
--cfg_path, FILE, --data_dir, DIR, --data_list, FILE]; the folder, the overrides and `--resume` are added. Its scores
are those of the last line of `metrics.jsonl`.
"""
import hashlib
import itertools
import json
import pathlib
import re
from typing import NamedTuple

from spml.config import check_override, read_yaml
from spml.errors import ConfigError

GRIDS = ('set', 'set_classifier', 'set_both')
_RUN_KEYS = ('title', 'pipeline', 'settings', *GRIDS)
_KEYS = ('out', 'pipeline', 'settings', 'train', *GRIDS, 'runs', 'seeds', 'scores')
# What a pipeline takes from the sweep itself.
_OWN_SETTINGS = ('RUN_NAME', 'SNAPSHOT_ROOT')
# Longer names of folders are cut: file systems allow 255 bytes, and files are named after folders.
_LONGEST_NAME = 120


class SweepRun(NamedTuple):
    """One run of a sweep."""

    name: str  # of its folder
    values: dict  # from a column of the table to the value tried, as text, without the seed
    seed: int
    overrides: dict  # from `set` and `set_classifier` to a dict from `section.key` to its value
    pipeline: pathlib.Path | None  # a script, or None for a training
    settings: dict  # of the script, as text

    def words(self, grid):
        """Return the overrides of `set` or `set_classifier` as the command line takes them."""
        return [f'{key}={as_text(value)}' for key, value in self.overrides[grid].items()]


class Sweep(NamedTuple):
    """What the YAML file asks for."""

    out: pathlib.Path  # folder
    train: list | None  # words of a training's command line; None where pipelines are run
    runs: list  # of SweepRun, those that differ in the seed alone next to one another
    scores: dict | None  # from the name of a score to its title; None for all scores


def read_sweep(path, seeds=None):
    """Read the YAML file of a sweep; `seeds` is a list of integers in place of the file's.

    ConfigError: it cannot be read, a key is unknown or missing, or a value is not one that its key can take.
    """
    content = _read(path)
    _require(path, 'out', isinstance(content.get('out'), str) and content['out'], 'a folder')
    seeds = seeds or content.get('seeds', [0])
    _require(path, 'seeds', _is_list(seeds) and all(type(seed) is int for seed in seeds), 'a list of integers')
    scores = content.get('scores')
    if _is_list(scores):
        scores = {str(name): str(name).removeprefix('score_') for name in scores}
    _require(path, 'scores', scores is None or (isinstance(scores, dict) and scores), 'NAME: TITLE, or a list of names')
    runs = []
    for run in _expand(path, content, seeds):
        # 1e-3 and 0.001 are one setting; a seed that is named twice is a mistake.
        if run not in runs or seeds.count(run.seed) > 1:
            runs.append(run)
    names = [run.name for run in runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    _require(path, 'runs', twice is None, f'each run once, but there are two of {twice}')
    return Sweep(pathlib.Path(content['out']), _train(path, content), runs, scores)


def _read(path):
    """Return the mapping that the file holds, its keys checked, those of its named runs too."""
    content = read_yaml(path, 'give a YAML file, see `sweep.py --help`')
    _check_keys(path, content, _KEYS)
    named = content.get('runs') or {}
    _require(path, 'runs', isinstance(named, dict), 'NAME: {title: ..., set: ...} for each run')
    for name, run in named.items():
        _check_keys(f'{path}: run {name}', run, _RUN_KEYS)
    return {**content, 'runs': {str(name): run for name, run in named.items()}}


def _check_keys(where, mapping, keys):
    if not isinstance(mapping, dict):
        raise ConfigError(f'{where}: expected lines `key: value` with the keys {", ".join(keys)}')
    unknown = [str(key) for key in mapping if key not in keys]
    if unknown:
        raise ConfigError(f'{where}: unknown key {unknown[0]}; known are {", ".join(keys)}')


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
    """Return the runs: every named run with every combination of the grid's values and every seed."""
    given = _overrides(path, content, content.get('train'))
    axes = [(grid, key, values) for grid in GRIDS for key, values in given[grid].items() if isinstance(values, list)]
    _require(path, 'set', all(values for _, _, values in axes), 'a list of at least one value, or a value')
    common = {grid: {key: value for key, value in keys.items() if not isinstance(value, list)}
              for grid, keys in given.items()}
    # Columns are called by the key without its section, where that tells them apart.
    short = [('classifier ' if grid == 'set_classifier' else '') + key.rpartition('.')[2] for grid, key, _ in axes]
    columns = [name if short.count(name) == 1 else f'{grid} {key}' for name, (grid, key, _) in zip(
        short, axes, strict=True)]
    named = (content['runs'] or {'': {}}).items()
    runs = []
    for (name, run), *values in itertools.product(named, *(values for _, _, values in axes)):
        where = f'{path}: run {name}' if name else path
        own = _overrides(where, run, content.get('train'))
        for grid, key, _ in axes:
            _require(where, grid, key not in own[grid], f'no {key}, for which the grid has values')
        layers = [common, own, *({grid: {key: value}} for (grid, key, _), value in zip(axes, values, strict=True))]
        overrides = _merged(where, layers)
        read = [overrides['set' if grid == 'set_both' else grid][key] for grid, key, _ in axes]
        shown = {'title': str(run.get('title', name))} if name else {}
        shown |= dict(zip(columns, map(as_text, read), strict=True))
        pipeline, settings = _command(where, content, run)
        by_column = [dict(zip(columns, row, strict=True)) for row in (read, values)]
        for seed in seeds:
            seeded = {target: {**keys, 'seed': seed} for target, keys in overrides.items()}
            folder = _folder(content['out'], name, seed, *by_column)
            runs.append(SweepRun(folder, shown, seed, seeded, pipeline, settings))
    return runs


def _overrides(path, mapping, train):
    """Return the sections `set`, `set_classifier` and `set_both`, checked except for their values."""
    sections = {grid: mapping.get(grid) or {} for grid in GRIDS}
    for grid, keys in sections.items():
        _require(path, grid, isinstance(keys, dict), 'lines `section.key: value`')
        _forbid(path, grid, 'seed' in keys, 'seed: use `seeds:`')
        _forbid(path, grid, keys and train and grid != 'set', 'not allowed with `train:`')
    return sections


def _command(path, content, run):
    """Return the script of a run, or None for a training, and its settings."""
    if content.get('train'):
        for key in ('pipeline', 'settings'):
            _forbid(path, key, content.get(key) or run.get(key), 'not allowed with `train:`')
        return None, {}
    name = run.get('pipeline') or content.get('pipeline')
    if not name:
        raise ConfigError(f'{path}: give either pipeline, a script of bashscripts/, or train, a command line')
    script = pathlib.Path(str(name))
    _require(path, 'pipeline', script.is_file(), f'a script, but {script} is not a file here')
    settings = {}
    for given in (content.get('settings') or {}, run.get('settings') or {}):
        _require(path, 'settings', isinstance(given, dict) and not set(given) & set(_OWN_SETTINGS),
                 f'NAME: value of a pipeline, without {" and ".join(_OWN_SETTINGS)}, which the sweep sets')
        settings |= {str(key): as_text(value) for key, value in given.items()}
    return script, settings


def _merged(path, layers):
    """Return the overrides of the embedding and of the classifier as the configuration reads them; the last counts."""
    result = {'set': {}, 'set_classifier': {}}
    for target, overrides in result.items():
        for layer in layers:
            for key, value in {**layer.get('set_both', {}), **layer.get(target, {})}.items():
                override = f'{key}={as_text(value)}'
                _require(path, target, override.split() == [override], f'values without blanks, unlike {override!r}')
                name, overrides[name] = check_override(override, f'{path}: {target}')
    return result


def _folder(out, name, seed, read, written):
    """Return the name of a run's folder, from the values as the configuration reads them, however they are written.

    A run that an earlier version made and named after the values as they are written keeps its folder.
    """
    if name and not read:
        return _sanitised(f'{name}_{seed}')
    now, before = (_sanitised(','.join([*([name] if name else []), *(
        f'{key}={"x".join(map(as_text, value)) if isinstance(value, list) else as_text(value)}'
        for key, value in values.items()), f'seed={seed}'])) for values in (read, written))
    return before if (pathlib.Path(out) / before / 'sweep.json').is_file() else now


def _sanitised(plain):
    """Return a text as a folder's name; what that cannot hold is replaced, and told apart by a checksum."""
    plain = plain.replace(' ', '_')
    name = re.sub(r'[^\w.,=+-]', '-', plain)[:_LONGEST_NAME]
    return name if name == plain else f'{name}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}'


def as_text(value):
    """Return a value of the YAML file as `--set` and the environment take it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))


def _is_list(value):
    return isinstance(value, list) and len(value) > 0


def _require(path, key, condition, expected):
    if not condition:
        raise ConfigError(f'{path}: {key}: expected {expected}')


def _forbid(path, key, condition, message):
    if condition:
        raise ConfigError(f'{path}: {key}: {message}')
