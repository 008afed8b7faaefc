"""List files: which images there are and where their labels are.

A list has one image per line, `image semantic instance`, `image semantic` or `image`, separated by blanks, relative to
the data folder. A line of three may go on with the image's tags, `1,15`, and with the kind of its weak label; `-` is no
label map, no regions or no tags. Reading a list opens no image: a missing image is found by `check_files`, a broken one
when it is read, and either is reported with the list's file name and line, which every entry carries along for that
purpose.
"""
import contextlib
import dataclasses
import hashlib
import os
import pathlib
import reprlib

from spml.errors import DataError
from spml.names import LABEL_KINDS, UNLABELLED
from spml.utils.formats import read_lines

FIELD_NAMES = ('image', 'semantic', 'instance', 'tags', 'kind')
# The field of what an image does not have.
NONE = '-'
_PATHS = 3


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a list file; `semantic` and `regions` are None where the line has no such field, or `-`."""

    name: str  # the image's base name without its ending: what results are called
    image: pathlib.Path
    semantic: pathlib.Path | None
    regions: pathlib.Path | None  # the over-segmentation, or the truth's objects: the column `instance`
    line: int  # one-based
    list_path: pathlib.Path
    fields: tuple  # the line's fields as written
    tags: tuple = ()  # classes that the fourth field names, in order; `readers.entry_tags` adds those of the label map
    kind: str | None = None  # of LABEL_KINDS, what the fifth field says of the weak label

    @property
    def is_unlabelled(self):
        """Whether the line says that no pixel is labelled, which is something else than a line without labels."""
        return self.fields[1:2] == (NONE,)

    @property
    def label_source(self):
        """What a result that is made from the label is made from: its path, or that there is none."""
        return self.semantic or [NONE]

    @property
    def place(self):
        """Where the entry was read, as `FILE:LINE`."""
        return f'{self.list_path}:{self.line}'


def read_list(list_path, data_dir, fields=None, unique_names=True, allow_absolute=True, num_classes=UNLABELLED):
    """Read a list file as a list of `Entry`, in its order. Blank lines are skipped but counted.

    Args:
        list_path, data_dir: the list file, and the folder that relative paths in it start from.
        fields: the allowed numbers of paths on a line, for example `(3,)`; None allows 1, 2 and 3. Tags and kind may
            follow wherever three are allowed, and are read with two as well: the regions are then left alone.
        unique_names: refuse two images of one base name, whose results would overwrite each other. Training lists may
            repeat an image to weigh it more.
        allow_absolute: whether paths may be absolute and so lead anywhere (`dataset.allow_absolute_paths`).
        num_classes: tags are less than this.

    DataError: the list or the folder is missing, the list is empty or not text, a line has the wrong number of fields,
    a path leaves `data_dir`, a tag is not a class, a kind none of LABEL_KINDS, or a base name comes twice.
    """
    entries, errors = parse_list(list_path, data_dir, fields, allow_absolute, num_classes)
    if errors:
        raise errors[0]
    if not entries:
        raise DataError(f'{list_path}: the list is empty; it needs one image per line')
    if unique_names:
        check_unique(entries)
    return entries


def check_output(path, data_list):
    """Raise DataError where the list that is to be written to `path` would replace that which it is made from."""
    path = pathlib.Path(path)
    if path.resolve() == pathlib.Path(data_list).resolve():
        raise DataError(f'{path}: the new list would be written over the one it is made from; give it another place')
    if path.is_dir():
        raise DataError(f'{path}: is a folder; give the file that the new list is to be written to')


def check_maps(entries, place):
    """Raise DataError where a label map that is to be written, `place(entry)`, would replace that of a list's entry."""
    for entry in entries:
        if entry.semantic is not None and entry.semantic.resolve() == pathlib.Path(place(entry)).resolve():
            raise DataError(f'{entry.semantic}: the new label map of {entry.place} would be written over it; give '
                            'another --save_dir')


def check_unique(entries):
    """Raise DataError, naming the line, if two entries' images have one base name."""
    seen = {}
    for entry in entries:
        other = seen.setdefault(entry.name, entry)
        if other is not entry:
            raise DataError(f'{entry.place}: the image name {entry.name} is on line {other.line} already; results '
                            f'are stored by that name, so one would overwrite the other')


def parse_list(list_path, data_dir, fields=None, allow_absolute=True, num_classes=UNLABELLED):
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
                entries.append(_parse_line(parts, number, list_path, data_dir, fields or (1, 2, 3), allow_absolute,
                                           num_classes))
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
    absolute, because results are seldom under the data folder; or to None where no pixel is labelled. All other fields
    stay. DataError: a path contains a blank, which the format cannot express.
    """
    lines = []
    for entry in entries:
        label = semantic(entry)
        fields = [entry.fields[0], NONE if label is None else os.path.abspath(label), *entry.fields[2:]]
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


def _parse_line(parts, number, list_path, data_dir, allowed, allow_absolute, num_classes):
    place = f'{list_path}:{number}'
    # What says more than three paths do may follow them.
    if len(parts) not in allowed and not (_PATHS < len(parts) <= len(FIELD_NAMES) and _PATHS in allowed):
        forms = ' or '.join(f'`{" ".join(FIELD_NAMES[:count])}`' for count in sorted(allowed, reverse=True))
        also = ', perhaps with `tags` and `kind` after it' if _PATHS in allowed else ''
        raise DataError(f'{place}: {len(parts)} fields, but a line here must be {forms}{also} (no blanks inside a '
                        'path)')
    tags = _parse_tags(parts[3], place, num_classes) if len(parts) > 3 else ()
    kind = parts[4] if len(parts) > 4 else None
    if kind is not None and kind not in LABEL_KINDS:
        raise DataError(f'{place}: {reprlib.repr(kind)} is not a kind of label; they are {", ".join(LABEL_KINDS)}')
    paths = []
    for index, part in enumerate(parts[:_PATHS]):
        if part == NONE and index:
            if index == 2 and allowed == (_PATHS,):
                raise DataError(f'{place}: no regions (`{NONE}`), but they are needed here; oversegment.py makes them')
            paths.append(None)
            continue
        if '\0' in part:
            raise DataError(f'{place}: a NUL byte in a path; is this a text file?')
        if os.path.isabs(part):
            if not allow_absolute:
                raise DataError(f'{place}: {part} is an absolute path, which dataset.allow_absolute_paths: false '
                                f'forbids; use one that starts from {data_dir}')
        elif os.path.normpath(part).split(os.sep)[0] == os.pardir:
            raise DataError(f'{place}: {part} leads out of the data folder {data_dir}; use an absolute path for that')
        # Textually: through a link, `link/..` would lead to wherever the link's target is.
        paths.append(data_dir / os.path.normpath(part))
    paths += [None] * (_PATHS - len(paths))
    return Entry(paths[0].stem, *paths, line=number, list_path=list_path, fields=parts, tags=tags, kind=kind)


def _parse_tags(text, place, num_classes):
    """Return the class ids of `1,15`, in order, or () of `-`."""
    if text == NONE:
        return ()
    tags = text.split(',')
    if not all(tag.isascii() and tag.isdecimal() and len(tag) < 4 for tag in tags):
        raise DataError(f'{place}: the tags {reprlib.repr(text)} must be class ids without blanks, such as 1,15, or '
                        f'{NONE} for none')
    found = sorted(set(map(int, tags)))
    if found[-1] >= num_classes:
        raise DataError(f'{place}: the tag {found[-1]} is not a class; there are {num_classes}, 0 to {num_classes - 1} '
                        '(dataset.num_classes)')
    return tuple(found)
