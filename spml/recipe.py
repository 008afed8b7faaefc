"""What a result depends on, and whether one that is there already may stay.

A `Recipe` names everything that decides a result: values (options, keys of the configuration) and files, which are
known by their content, never by their date. `judge` compares the recipe that a result was made with to today's and
gives one of four answers. Whatever asks "is this made already?" asks here: the stages of a pipeline, the images of an
inference, the items of a preparation, the built-in data, the runs of a sweep.

A folder of many results (`ResultFolder`) holds two files: `made_with.json`, the recipe that all of them share, and
`made_from.jsonl`, a line for each result with the digest of the files that it was made from. The line is written after
the result and removed before the result is made again, so a kill at any moment costs one result and never vouches for
a wrong one.
"""
import contextlib
import dataclasses
import enum
import hashlib
import json
import os
import pathlib
import reprlib
import time

from tqdm import tqdm

from spml.errors import SpmlError
from spml.utils.formats import append_line, read_json_lines, read_json_or_none, write_json, write_text

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 80
_BLOCK = 1 << 20
_SETTLED_NS = 2 * 10 ** 9
# Seconds after which reading shows a bar: gigabytes are read the first time, and next to nothing after it.
_BAR_DELAY = 2


class Answer(enum.Enum):
    """What happens to a result."""

    STANDS = 'stands'
    GOES_ON = 'goes on'
    MAKE = 'is made'
    REFUSE = 'is refused'


class FileDigests:
    """Digests of files' contents; a file is read again only where its size, its dates or its inode have changed.

    The date of its inode is among them, which nobody can set back. A path may be a folder, whose digest is that of the
    names and contents of the files below it. What is no path, but a value that JSON can hold, is known by itself. The
    file `cache` keeps the digests from one start to the next, see `save`; None keeps them in memory alone.
    """

    def __init__(self, cache=None):
        self._cache = cache and pathlib.Path(cache)
        self._known = {}
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # no cache, or one that is damaged
            self._known = {path: (tuple(key), digest, True) for path, (key, digest) in read_json_or_none(cache).items()}

    def __call__(self, path):
        """Return the digest of a file, a folder or a value as text; '' for what is not there."""
        if not is_path(path):
            return combine([json.dumps(path, sort_keys=True)])
        path = os.fspath(path)
        try:
            if os.path.isdir(path):
                return self._folder(path)
            status = os.stat(path)
            key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            known = self._known.get(path)
            if known is None or known[0] != key:
                # A file that has just been written may be written again without another date.
                is_settled = time.time_ns() - status.st_ctime_ns > _SETTLED_NS
                self._known[path] = known = key, _content(path), is_settled
        except FileNotFoundError:
            return ''
        return known[1]

    def save(self):
        """Write the cache: all digests but those of files that had just been written when they were read."""
        rows = {path: (key, digest) for path, (key, digest, is_settled) in self._known.items() if is_settled}
        write_text(self._cache, json.dumps(rows))

    def _folder(self, path):
        below = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names
                       if not name.startswith('.'))
        return combine(f'{os.path.relpath(file, path)} {self(file)}' for file in bar_of_reading(below))


def is_path(source):
    """Whether what a result is made from is a path, and not a value."""
    return isinstance(source, (str, os.PathLike))


def bar_of_reading(items):
    """Return an iterable of items whose files are read, with a bar if it takes long."""
    return tqdm(items, desc='reading inputs', unit='file', delay=_BAR_DELAY, leave=False, dynamic_ncols=True)


def _content(path):
    state = hashlib.blake2b(digest_size=16)
    with open(path, 'rb') as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def combine(texts):
    """Return the digest of several texts in their order."""
    state = hashlib.blake2b(digest_size=16)
    for text in texts:
        state.update(f'{text}\n'.encode(errors='surrogateescape'))
    return state.hexdigest()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a result depends on."""

    values: dict  # from a name to what JSON can hold
    files: dict = dataclasses.field(default_factory=dict)  # from a file's name, as the user knows it, to its digest

    def __post_init__(self):
        # As it will be read again: tuples are lists then.
        object.__setattr__(self, 'values', json.loads(json.dumps(self.values)))

    @property
    def digest(self):
        """A text that two recipes share only if all in them is equal."""
        return combine([json.dumps(self.to_json(), sort_keys=True)])

    def to_json(self):
        """Return the recipe as JSON can hold it."""
        return {'values': self.values, 'files': self.files}

    @classmethod
    def from_json(cls, value):
        """Return the recipe that `to_json` gave, or None for anything else."""
        parts = [value.get('values'), value.get('files')] if isinstance(value, dict) else [None]
        return cls(*parts) if all(isinstance(part, dict) for part in parts) else None

    def difference(self, before):
        """Return in words the first thing in which this recipe differs from that of `before`; '' if in nothing."""
        for name in {**before.values, **self.values}:
            old, new = before.values.get(name), self.values.get(name)
            if old != new:
                return f'{name}: {_SHOWN.repr(old)} -> {_SHOWN.repr(new)}'
        changed = [name for name in {**before.files, **self.files} if before.files.get(name) != self.files.get(name)]
        if not changed:
            return ''
        name, more = changed[0], f' and {len(changed) - 1} more' if len(changed) > 1 else ''
        if not self.files.get(name):
            return f'{name}{more}: no longer there'
        return f'{name}{more}: {"other content" if before.files.get(name) else "not there before"}'


def judge(now, before, complete, overwrite=False, costly=False):
    """Return the Answer for a result, and the difference that led to it in words ('' if there is none).

    Args:
        now: Recipe of today.
        before: Recipe that the result was begun by, or None where none was.
        complete: whether it was finished and is all there.
        overwrite: the user asks for it to be made again where it differs.
        costly: a difference is refused unless `overwrite` is set, instead of being made again at once.
    """
    if before is None:
        return Answer.MAKE, ''
    difference = now.difference(before)
    if not difference:
        return (Answer.STANDS if complete else Answer.GOES_ON), ''
    return (Answer.REFUSE if costly and not overwrite else Answer.MAKE), difference


class ResultFolder:
    """Results of many items in one folder, some of which may be there already.

    Args:
        recipe: Recipe that all of them share.
        outputs: function from an item's name to the paths of its results.
        inputs: function from an item's name to what its results are made from: paths, and values that JSON can hold.
        name: of the two files in the folder, for folders that hold several kinds of results.
    """

    def __init__(self, folder, recipe, outputs, inputs, digests=None, name='made'):
        self.folder, self.recipe, self.outputs, self.inputs = pathlib.Path(folder), recipe, outputs, inputs
        self.digests = digests or FileDigests()
        self._with, self._from = self.folder / f'{name}_with.json', self.folder / f'{name}_from.jsonl'
        self.made_from = {}  # digests of the items' files, as `remaining` saw them

    def remaining(self, names, overwrite=False, refuse=False):
        """Return the names whose results have to be made, in their order, and the difference between the recipes.

        The difference, in words, is why all of them have to be ('' where there is none). `overwrite` makes all again.
        SpmlError: `refuse` is set, `overwrite` is not, the recipes differ, and results were noted by the other.
        """
        noted, before = self._noted(), Recipe.from_json(read_json_or_none(self._with))
        if refuse and not noted:  # nothing was made, perhaps because an option was wrong
            before = None
        answer, difference = judge(self.recipe, before, True, overwrite, refuse)
        if answer is Answer.REFUSE:
            raise SpmlError(f'{self.folder}: holds results made differently ({difference}); choose another folder, or '
                            'give --overwrite to make them again')
        noted = {} if overwrite or answer is not Answer.STANDS else noted
        self.made_from = {name: combine(map(self.digests, self.inputs(name))) for name in bar_of_reading(names)}
        # Lines of what is made again go first; those of other lists' items stay.
        noted = {name: digest for name, digest in noted.items()
                 if name not in self.made_from or (self.made_from[name] == digest and self._is_there(name))}
        write_text(self._from, ''.join(_line(name, digest) + '\n' for name, digest in noted.items()))
        write_json(self._with, self.recipe.to_json())
        return [name for name in names if name not in noted], difference

    def note(self, name, made_from=None):
        """Note that an item's results are complete; `made_from` where another process has found the digest."""
        append_line(self._from, _line(name, made_from or self.made_from[name]))

    @property
    def is_begun(self):
        """Whether results were made in the folder."""
        return self._with.is_file()

    def _noted(self):
        """Return dict from a name to the digest noted last; what a kill or another writer has garbled is skipped."""
        return {row['name']: row['made_from'] for row in read_json_lines(self._from, skip_damaged=True)
                if isinstance(row.get('name'), str) and isinstance(row.get('made_from'), str)}

    def _is_there(self, name):
        try:  # a machine that failed may leave a file without content
            return all(pathlib.Path(path).stat().st_size > 0 for path in self.outputs(name))
        except OSError:
            return False


def _line(name, digest):
    return json.dumps({'name': name, 'made_from': digest})

