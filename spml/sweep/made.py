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
from spml.pipeline.plan import Stage
from spml.pipeline.recipes import as_known_today, recipe_of
from spml.pipeline.record import read_record
from spml.recipe import FileDigests, Recipe, combine, judge
from spml.utils.formats import read_json, write_json
from spml.utils.model_files import PROJECT

# Settings that say only where results are and how fast they are made.
_LAUNCH = ('RUN_NAME', 'SNAPSHOT_ROOT', 'OVERWRITE', 'GPUS', 'PROCESSES', 'NUM_WORKERS', 'OMP_NUM_THREADS')
_OVERRIDES = ('SET_EMBEDDING', 'SET_CLASSIFIER')
# A pipeline's command begins with its settings, a training's does not.
_SETTING = re.compile('[A-Z_]+=')
_DIGESTS = FileDigests()


def judge_run(folder, command, overwrite=False):
    """Decide what becomes of a run.

    Args:
        folder: of the run.
        command: as `runner.describe` gives it today.
        overwrite: whether one that was made with other settings is made again, instead of being refused.

    Returns:
        `recipe.Answer`; what differs, in words; and whether results of other settings may still be in the folder.
    """
    path = folder / 'sweep.json'
    if not path.is_file():
        return *judge(None, None, False), False
    noted = read_json(path, 'remove it')
    if not isinstance(noted, dict) or not isinstance(noted.get('command'), str):
        raise DataError(f'{path}: not what a sweep writes; remove it')
    before = Recipe.from_json(noted.get('recipe')) or _recipe(noted['command'])
    now = _recipe(command, before.files)
    if not _SETTING.match(command):
        before = as_known_today(before, now)
    answer, difference = judge(now, before, 'seconds' in noted, overwrite, costly=True)
    return answer, difference, bool(difference or noted.get('overwrites'))


def note_begun(folder, command, overwrites):
    """Note by what a run is made, and whether it makes results of other settings again."""
    write_json(folder / 'sweep.json', {'command': command, 'recipe': _recipe(command).to_json(),
                                       'overwrites': overwrites})


def note_done(folder, command, seconds):
    """Note that a run has ended well."""
    write_json(folder / 'sweep.json', {'command': command, 'recipe': _recipe(command, _files(folder)).to_json(),
                                       'seconds': seconds})


def _recipe(command, files=()):
    """Return the Recipe of a command: of a training what it reads, of a pipeline its settings and some files."""
    words = shlex.split(command)
    settings = dict(word.split('=', 1) for word in itertools.takewhile(_SETTING.match, words))
    script, *arguments = words[len(settings) + 1:]
    if not settings:
        try:
            return recipe_of(Stage('training', '', pathlib.Path(), script, arguments), _DIGESTS)
        except ConfigError:  # a key that has gone since, or no such file
            return Recipe({'command': command})
    values = {'script': script, **{name: value for name, value in settings.items() if name not in _LAUNCH + _OVERRIDES}}
    for name in _OVERRIDES:
        for override in settings.get(name, '').split():
            key, value = _read_override(override)
            values[f'{name} {key}'] = value
    return Recipe(values, {name: (_configuration if name.endswith('.yaml') else _DIGESTS)(PROJECT / name)
                           for name in files})


def _read_override(override):
    try:
        return check_override(override)
    except ConfigError:  # of an earlier version
        return override.partition('=')[::2]


def _files(folder):
    """Return the configurations and lists that the stages of a pipeline's run have read and did not make.

    Those of the project are relative to its folder, which may be moved.
    """
    if not (folder / 'run.jsonl').is_file():
        return []
    paths = [value for stage in read_record(folder).stages for name, value in stage.options.items()
             if isinstance(value, str) and (name == '--cfg_path' or name.endswith('_list'))]
    return [path.removeprefix(f'{PROJECT}/') for path in dict.fromkeys(paths)
            if not pathlib.Path(path).is_relative_to(folder.absolute())]


def _configuration(path):
    """Return the digest of what a configuration sets; comments, and keys at their default, make no difference."""
    try:
        values = flatten(load_config(path))
    except ConfigError:
        return ''
    return combine(f'{key}: {value}' for key, value in sorted(values.items()) if value != SCHEMA[key].default)
