"""List files: which images there are and where their labels are.

A list has one image per line, `image semantic instance`, `image semantic` or `image`, separated by blanks, relative to
the data folder. Reading a list opens no image: a missing image is found by `check_files`, a broken one when it is read,
and either is reported with the list's file name and line, which every entry carries along for that purpose.
"""
import contextlib
import dataclasses
import hashlib
import os
import pathlib

from spml.errors import DataError
from spml.utils.formats import read_lines

FIELD_NAMES = ('image', 'semantic', 'instance')


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a list file; `semantic` and `regions` are None where the line has no such field."""

    name: str  # the image's base name without its ending: what results are called
    image: pathlib.Path
    semantic: pathlib.Path | None
    regions: pathlib.Path | None  # the over-segmentation, or the truth's objects: the column `instance`
    line: int  # one-based
    list_path: pathlib.Path
    fields: tuple  # the line's fields as written

    @property
    def place(self):
        """Where the entry was read, as `FILE:LINE`."""
        return f'{self.list_path}:{self.line}'


def read_list(list_path, data_dir, fields=None, unique_names=True, allow_absolute=True):
    """Read a list file as a list of `Entry`, in its order. Blank lines are skipped but counted.

    Args:
        list_path, data_dir: the list file, and the folder that relative paths in it start from.
        fields: the allowed numbers of fields on a line, for example `(3,)`; None allows 1, 2 and 3.
        unique_names: refuse two images of one base name, whose results would overwrite each other. Training lists may
            repeat an image to weigh it more.
        allow_absolute: whether paths may be absolute and so lead anywhere (`dataset.allow_absolute_paths`).

    DataError: the list or the folder is missing, the list is empty or not text, a line has the wrong number of fields,
    a path leaves `data_dir`, or a base name comes twice.
    """
    entries, errors = parse_list(list_path, data_dir, fields, allow_absolute)
    if errors:
        raise errors[0]
    if not entries:
        raise DataError(f'{list_path}: the list is empty; it needs one image per line')
    if unique_names:
        check_unique(entries)
    return entries


def check_unique(entries):
    """Raise DataError, naming the line, if two entries' images have one base name."""
    seen = {}
    for entry in entries:
        other = seen.setdefault(entry.name, entry)
        if other is not entry:
            raise DataError(f'{entry.place}: the image name {entry.name} is on line {other.line} already; results '
                            f'are stored by that name, so one would overwrite the other')


def parse_list(list_path, data_dir, fields=None, allow_absolute=True):
    """Return the entries of the good lines of a list file and a DataError for each wrong one; arguments as above.

    DataError: the list or the folder is missing, or the list is not text.
    """
    list_path, data_dir = pathlib.Path(list_path), pathlib.Path(data_dir)
    if not data_dir.is_dir():
        raise DataError(f'{data_dir}: no such folder; the paths in {list_path} start from it')
    entries, errors = [], []
    for number, text in enumerate(read_lines(list_path, 'a list with one image per line'), start=1):
        parts = tuple(text.split())
        if parts:
            try:
                entries.append(_parse_line(parts, number, list_path, data_dir, fields or (1, 2, 3), allow_absolute))
            except DataError as error:
                errors.append(error)
    return entries, errors


def digest(entries):
    """Return a short digest of the lines of a list as they were written, in their order."""
    lines = '\n'.join(' '.join(entry.fields) for entry in entries)
    return hashlib.sha256(lines.encode('utf-8', 'surrogatepass')).hexdigest()[:16]


def check_files(entries):
    """Raise DataError unless every file the entries name exists; it names the first ones missing and their number."""
    missing = {}
    for entry in entries:
        for path in (entry.image, entry.semantic, entry.regions):
            if path is not None and path not in missing and not path.is_file():
                missing[path] = entry
    if missing:
        (path, entry), *others = list(missing.items())[:3]
        more = ''.join(f', {other} (line {at.line})' for other, at in others)
        raise DataError(f'{entry.place}: no such file: {path}{more}; {len(missing)} missing in total; check --data_dir')


def format_list(path, entries, semantic):
    """Return the text of a list file, `path`, with another semantic label for each of the entries.

    `semantic` is a function from the entry to the label's path, which is taken from the working directory and written
    absolute, because results are seldom under the data folder. DataError: a path contains a blank, which the format
    cannot express.
    """
    lines = []
    for entry in entries:
        fields = [entry.fields[0], os.path.abspath(semantic(entry)), *entry.fields[2:]]
        for field in fields:
            if field.split() != [field]:
                raise DataError(f'{path}: cannot list {field!r}: blanks separate the fields; use a path without blanks')
        lines.append(' '.join(fields))
    return '\n'.join(lines) + '\n'


@contextlib.contextmanager
def located(entry):
    """Put the entry's `FILE:LINE` in front of every `DataError` raised inside the `with` block."""
    try:
        yield
    except DataError as error:
        raise type(error)(f'{entry.place}: {error}') from None


def _parse_line(parts, number, list_path, data_dir, allowed, allow_absolute):
    place = f'{list_path}:{number}'
    if len(parts) not in allowed:
        forms = ' or '.join(f'`{" ".join(FIELD_NAMES[:count])}`' for count in sorted(allowed, reverse=True))
        raise DataError(f'{place}: {len(parts)} fields, but a line here must be {forms} (no blanks inside a path)')
    for part in parts:
        if '\0' in part:
            raise DataError(f'{place}: a NUL byte in a path; is this a text file?')
        if os.path.isabs(part):
            if not allow_absolute:
                raise DataError(f'{place}: {part} is an absolute path, which dataset.allow_absolute_paths: false '
                                f'forbids; use one that starts from {data_dir}')
        elif os.path.normpath(part).split(os.sep)[0] == os.pardir:
            raise DataError(f'{place}: {part} leads out of the data folder {data_dir}; use an absolute path for that')
    # Textually: through a link, `link/..` would lead to wherever the link's target is.
    paths = [data_dir / os.path.normpath(part) for part in parts] + [None] * (3 - len(parts))
    return Entry(paths[0].stem, *paths, line=number, list_path=list_path, fields=parts)
