"""What a run of a sweep was made by, and whether it is done: `sweep.json` in its folder.

The file holds the command, its recipe and, once the run has ended well, the seconds that it took. Files of earlier
versions hold no recipe: it is taken from the command.
"""
import itertools
import pathlib
import re
import shlex

from spml.config import check_override, flatten, load_config
from spml.config.schema import SCHEMA
from spml.errors import ConfigError, DataError
from spml.pipeline.record import options_of, read_record
from spml.recipe import FileDigests, Recipe, combine, judge
from spml.utils.formats import read_json, write_json

# What says only where results lie and how fast they are made.
_LAUNCH = ('RUN_NAME', 'SNAPSHOT_ROOT', 'OVERWRITE', 'GPUS', 'PROCESSES', 'NUM_WORKERS', 'OMP_NUM_THREADS',
           '--snapshot_dir', '--resume', '--device', '--num_workers', '--num_processes')
_OVERRIDES = ('SET_EMBEDDING', 'SET_CLASSIFIER', '--set')


def judge_run(folder, command, overwrite=False):
    """Decide what becomes of a run.

    Args:
        folder: of the run.
        command: as `runner.describe` gives it today.
        overwrite: whether one that was made with other settings is made again, instead of being refused.

    Returns:
        `recipe.Answer`; what differs, in words; and whether results of other settings may still be in the folder.
    """
    noted = _read_noted(folder)
    values = values_of(command)
    if noted is None:
        return *judge(Recipe(values), None, False), False
    before = Recipe.from_json(noted.get('recipe')) or Recipe(values_of(noted['command']), _files(folder, command))
    answer, difference = judge(Recipe(values, _digests(before.files)), before, 'seconds' in noted, overwrite, True)
    return answer, difference, bool(difference or noted.get('overwrites'))


def note_begun(folder, command, overwrites):
    """Note by what a run is made, and whether it makes results of other settings again."""
    write_json(folder / 'sweep.json', {'command': command, 'recipe': Recipe(values_of(command)).to_json(),
                                       'overwrites': overwrites})


def note_done(folder, command, seconds):
    """Note that a run has ended well."""
    recipe = Recipe(values_of(command), _files(folder, command))
    write_json(folder / 'sweep.json', {'command': command, 'recipe': recipe.to_json(), 'seconds': seconds})


def values_of(command):
    """Return what decides the result of a command, a dict; values of keys as the configuration reads them."""
    words = shlex.split(command)
    settings = dict(word.split('=', 1) for word in itertools.takewhile(re.compile('[A-Z_]+=').match, words))
    script, *arguments = words[len(settings) + 1:]
    given = {**settings, **options_of(arguments)}
    values = {'script': script, **{name: value for name, value in given.items() if name not in _LAUNCH + _OVERRIDES}}
    for name in _OVERRIDES:
        overrides = given.get(name, '')
        for override in overrides.split() if isinstance(overrides, str) else overrides:
            key, value = _read_override(override)
            values[f'{name} {key}'] = value
    return values


def _read_override(override):
    try:
        return check_override(override)
    except ConfigError:  # of an earlier version
        return override.partition('=')[::2]


def _read_noted(folder):
    path = folder / 'sweep.json'
    if not path.is_file():
        return None
    noted = read_json(path, 'remove it')
    if not isinstance(noted, dict) or not isinstance(noted.get('command'), str):
        raise DataError(f'{path}: not what a sweep writes; remove it')
    return noted


def _files(folder, command):
    """Return the digests of configurations and lists that a run was made from, by the options that named them."""
    commands = [options_of(shlex.split(command))]
    if (folder / 'run.jsonl').is_file():
        commands += [stage.options for stage in read_record(folder).stages]
    paths = [value for options in commands for name, value in options.items()
             if isinstance(value, str) and (name == '--cfg_path' or name.endswith('_list'))]
    return _digests(path for path in dict.fromkeys(paths) if not pathlib.Path(path).is_relative_to(folder.absolute()))


def _digests(paths):
    digests = FileDigests()
    return {path: _configuration(path) if path.endswith('.yaml') else digests(path) for path in paths}


def _configuration(path):
    """Return the digest of what a configuration sets; comments, and keys at their default, make no difference."""
    try:
        values = flatten(load_config(path))
    except ConfigError:
        return ''
    return combine(f'{key}: {value}' for key, value in sorted(values.items()) if value != SCHEMA[key].default)
