"""Reading everything that a run would read, and noting all that is wrong or suspicious with it.

`wrong` is what a run would refuse. `suspicious` is what it would silently accept although it is seldom meant, such as
scribbles in which 255, void, means "not drawn". A finding names its place, as `FILE:LINE` of the list.
"""
import dataclasses
import functools
import logging
import os
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from spml.data.decoding import UPRIGHT, warn_of_damage
from spml.data.lists import check_output, format_list, parse_list
from spml.data.readers import check_same_size, read_image, read_label, stored_orientation
from spml.errors import ConfigError, DataError, WrongEncodingError
from spml.names import VOID
from spml.utils.formats import write_png, write_text

logger = logging.getLogger(__name__)

# Names of findings: their headings. Those of WRONG are printed first.
WRONG = {
    'line': 'lines of the list that cannot be read',
    'missing': 'files that are missing',
    'corrupt': 'files that are damaged',
    'encoding': 'files that are stored in another way than they must be',
    'size': 'labels that differ in size from their image',
}
SUSPICIOUS = {
    'void': 'labels in which 255, void, seems to mean unlabelled (check_data.py --fix unlabelled=255:254 helps)',
    'empty': 'labels in which no pixel has a class, where no tag is given either',
    'values': 'several label values that are not classes (is the number of classes right?)',
    'turned': 'labelled images that are stored turned (EXIF orientation): they are read upright, as labels must be',
    'tags': 'tags that the full truth of their image contradicts (its pixels count, and so do the tags)',
    'regions': 'over-segmentations of a single region',
    'absent': 'classes that never occur',
    'name': 'images that share their name with another (results are stored by name, one would overwrite the other)',
    'pairs': 'images with two label maps, and label maps of two images',
    'overlap': 'images that are also in the validation list',
}
# Void covers the borders of objects in full truth; where it covers most of a label, something else is meant.
_VOID_SHARE = 0.5
_SAMPLE = 32
_SHOWN = 5


class Finding(NamedTuple):
    """One thing that was found: its name (a key of WRONG or SUSPICIOUS), where it is and what it is."""

    name: str
    place: str
    text: str

    def __str__(self):
        return f'{self.place}: {self.text}'


class Fix(NamedTuple):
    """Write label value `old` as `new`, which means unlabelled or is a class."""

    old: int
    new: int

    def __call__(self, label):
        """Return a (H, W) uint8 label map with the value replaced."""
        return np.where(label == self.old, np.uint8(self.new), label)


@dataclasses.dataclass
class Checked:
    """What was read.

    `counts` are the numbers of images, labels and over-segmentations read without errors, `pixels` (256,) int64 the
    pixels of each label value, `images` (256,) int64 the images whose label or tags hold each value.
    """

    findings: list  # of Finding
    counts: np.ndarray
    pixels: np.ndarray
    images: np.ndarray

    @property
    def is_wrong(self):
        """Whether a run would stop."""
        return any(finding.name in WRONG for finding in self.findings)


def parse_fix(text, num_classes):
    """Return the Fix that `unlabelled=OLD:NEW` or `class=OLD:NEW` asks for.

    ConfigError: it is of another form, or NEW does not mean unlabelled or is not a class.
    """
    name, _, values = text.partition('=')
    old, _, new = values.partition(':')
    if name not in ('unlabelled', 'class') or not (old.isdecimal() and new.isdecimal() and int(old) <= VOID):
        raise ConfigError(f'--fix {text}: expected unlabelled=OLD:NEW or class=OLD:NEW, for example unlabelled=255:254')
    if name == 'unlabelled' and not num_classes <= int(new) < VOID:
        raise ConfigError(f'--fix {text}: {new} does not mean unlabelled; {num_classes}..{VOID - 1} do')
    if name == 'class' and not int(new) < num_classes:
        raise ConfigError(f'--fix {text}: {new} is not a class; 0..{num_classes - 1} are')
    return Fix(int(old), int(new))


def check_list(data_list, data_dir, num_classes, num_workers=1, val_list=None, allow_absolute=True, transform=None,
               labels_only=False):
    """Read everything that a list names, by `num_workers` threads, and return what was Checked; see `read_list`.

    `val_list` is a list whose images this one should not hold, or None, `transform` None, or a function from an entry
    and its (H, W) uint8 label to the label to be checked in its place. `labels_only` leaves out images and regions,
    which is what takes time. DataError: a list itself or the folder cannot be read, or names no image.
    """
    entries, errors = parse_list(data_list, data_dir, allow_absolute=allow_absolute, num_classes=num_classes)
    of_lines = [Finding('line', *str(error).split(': ', 1)) for error in errors]
    checked = Checked(of_lines, *(np.zeros(size, np.int64) for size in (3, 256, 256)))
    if not entries and not errors:
        raise DataError(f'{data_list}: the list is empty; it needs one image per line')
    with ThreadPool(max(1, num_workers)) as pool:
        inspected = pool.imap(functools.partial(inspect, num_classes=num_classes, transform=transform,
                                                with_image=not labels_only, with_regions=not labels_only), entries)
        bar = tqdm(inspected, total=len(entries), desc='check', unit='image', dynamic_ncols=True)
        for entry, (findings, counts, histogram) in zip(entries, bar, strict=True):
            checked.findings += findings
            checked.counts += counts
            checked.pixels += histogram
            checked.images += histogram > 0
            only_tagged = [tag for tag in entry.tags if histogram[tag] == 0]
            checked.images[only_tagged] += 1
    checked.findings += _of_the_labels(checked, data_list, num_classes)
    checked.findings += _of_the_names(entries) + _of_the_pairs(entries)
    if val_list is not None:
        checked.findings += _overlap(entries, parse_list(val_list, data_dir)[0], val_list)
    return checked


def check_sample(entries, num_classes, with_regions):
    """Read a few entries, which have labels, from all over a list before a long run: the quick form.

    Returns the suspicious findings; DataError tells of the first thing found wrong.
    """
    sample = entries[::max(1, len(entries) // _SAMPLE)][:_SAMPLE]
    with ThreadPool(min(4, len(sample))) as pool:
        inspected = pool.map(functools.partial(inspect, num_classes=num_classes, with_regions=with_regions,
                                               on_damage=warn_of_damage), sample)
    findings = [finding for found, _, _ in inspected for finding in found]
    for finding in findings:
        if finding.name in WRONG:
            raise DataError(str(finding))
    for name in ('void', 'empty', 'turned'):
        found = [finding for finding in findings if finding.name == name]
        if found:
            logger.warning('%d of %d labels looked at: %s. The first: %s', len(found), len(sample), SUSPICIOUS[name],
                           found[0])
    return findings


def inspect(entry, num_classes, with_regions=True, transform=None, with_image=True, on_damage=None):
    """Read the files of one entry; an image of which a part is lost is a finding, unless `on_damage` is to hear of it.

    Returns a list of Finding; (3,) int64, how many images, labels and over-segmentations could be read; (256,)
    int64, the pixels of each value of the semantic label.
    """
    findings, found, histogram = [], [None] * 3, np.zeros(256, np.int64)
    damage = []
    paths = entry.image if with_image else None, entry.semantic, entry.regions if with_regions else None
    for number, path in enumerate(paths):
        if path is not None:
            try:
                found[number] = read_label(path) if number else read_image(path, on_damage or damage.append)
            except DataError as error:
                name = ('encoding' if isinstance(error, WrongEncodingError) else
                        'corrupt' if path.is_file() else 'missing')
                findings.append(Finding(name, entry.place, str(error)))
    findings += [Finding('corrupt', entry.place, text) for text in damage]
    image, semantic, regions = found
    counts = np.array([content is not None for content in found], np.int64)
    for label, path in zip(found[1:], paths[1:], strict=True):
        if image is not None and label is not None:
            try:
                check_same_size(entry, image, label, path)
            except DataError as error:
                findings.append(Finding('size', entry.place, str(error)))
    if image is not None and semantic is not None and stored_orientation(entry.image) != UPRIGHT:
        findings.append(Finding('turned', entry.place, f'{entry.image}: EXIF orientation '
                                                       f'{stored_orientation(entry.image)}'))
    if semantic is not None:
        semantic = semantic if transform is None else transform(entry, semantic)
        histogram += np.bincount(semantic.ravel(), minlength=256)
        findings += _of_one_label(entry, histogram, num_classes)
        absent = [tag for tag in entry.tags if histogram[tag] == 0]
        if entry.kind == 'mask' and absent:
            findings.append(Finding('tags', entry.place, f'{entry.semantic}: no pixel is of '
                                                         f'{", ".join(map(str, absent))}'))
    elif entry.is_unlabelled and not entry.tags:
        findings.append(Finding('empty', entry.place, f'{entry.image}: no label map and no tags'))
    if regions is not None and regions.size > 1 and regions.min() == regions.max():
        findings.append(Finding('regions', entry.place, f'{entry.regions}: every pixel is {regions.min()}'))
    return findings, counts, histogram


def _of_one_label(entry, histogram, num_classes):
    total, labelled, void = histogram.sum(), histogram[:num_classes].sum(), histogram[VOID]
    if labelled == 0:
        if entry.tags:
            return []
        held = ', '.join(str(value) for value in np.flatnonzero(histogram)[:5])
        return [Finding('empty', entry.place, f'{entry.semantic}: holds only {held}')]
    if void > _VOID_SHARE * total and labelled + void == total:
        return [Finding('void', entry.place, f'{entry.semantic}: {100 * void / total:.0f} % are 255 and nothing is '
                                             f'unlabelled ({num_classes}..{VOID - 1})')]
    return []


def _of_the_labels(checked, data_list, num_classes):
    if checked.counts[1] == 0 and not checked.images.any():
        return []
    other = np.flatnonzero(checked.pixels[num_classes:VOID]) + num_classes
    # Weak labels have unlabelled pixels anyway, but hardly beside a single class.
    is_other = len(other) == 1 and np.count_nonzero(checked.pixels[:num_classes]) == 1
    value, meaning = (VOID, 'void') if checked.images[VOID] or not is_other else (other[0], 'unlabelled')
    instead = (f'; {value}, {meaning}, occurs in {checked.images[value]} labels: if that is what it means, --fix '
               f'class={value}:{{0}} helps') if checked.images[value] else ''
    findings = [Finding('absent', str(data_list), f'class {value}{instead.format(value)}')
                for value in range(num_classes) if checked.images[value] == 0]
    if len(other) > 1:
        held = ', '.join(f'{value} in {checked.images[value]}' for value in other[:8])
        more = f' and {len(other) - 8} more' if len(other) > 8 else ''
        findings.append(Finding('values', str(data_list), f'{len(other)} values that all mean unlabelled with '
                                                          f'{num_classes} classes ({held} labels{more})'))
    return findings


def _of_the_names(entries):
    """Return the entries whose image has the name of another image."""
    seen, findings = {}, []
    for entry in entries:
        other = seen.setdefault(entry.name, entry)
        if other.image != entry.image:
            findings.append(Finding('name', entry.place, f'{entry.image} and, on line {other.line}, {other.image}'))
    return findings


def _of_the_pairs(entries):
    """Return the entries whose image or label map is on a line before with another partner; images may come twice."""
    findings, before = [], {}
    for entry in entries:
        if entry.semantic is not None:
            for path, partner in ((entry.image, entry.semantic), (entry.semantic, entry.image)):
                other, line = before.setdefault(path, (partner, entry.line))
                if other != partner:
                    findings.append(Finding('pairs', entry.place, f'{path} with {partner}, and on line {line} with '
                                                                  f'{other}'))
    return findings


def _overlap(entries, val_entries, val_list):
    """Return the entries whose image is in the validation list too, under whatever path leads to it."""
    val = {os.path.realpath(entry.image): entry.line for entry in val_entries}
    return [Finding('overlap', entry.place, f'{entry.image}: line {val[path]} of {val_list}')
            for entry, path in ((entry, os.path.realpath(entry.image)) for entry in entries) if path in val]


def check_and_print(data_list, data_dir, num_classes, class_names, save_dir, num_workers, val_list, fix,
                    allow_absolute):
    """Run `check_list`, print the findings and the class balance, write `save_dir/findings.txt`, and return Checked.

    `fix` is None, or a Fix whose corrected labels are written under `save_dir/labels/`, with the list of them under its
    own name, and checked in place of the labels as they are.
    """
    corrected = {}
    if fix is not None:
        check_output(save_dir / data_list.name, data_list)
        entries, _ = parse_list(data_list, data_dir, allow_absolute=allow_absolute, num_classes=num_classes)
        for entry in entries:
            if len(entry.fields) < 2:
                raise DataError(f'{entry.place}: no label to correct; --fix takes a list with a label on every line')

    def write_corrected(entry, label):
        path = save_dir / 'labels' / os.path.normpath(entry.fields[1]).lstrip('/')
        label = fix(label)
        write_png(path, label)
        corrected[entry.semantic] = path
        return label

    checked = check_list(data_list, data_dir, num_classes, num_workers, val_list, allow_absolute,
                        transform=None if fix is None else write_corrected)
    write_text(save_dir / 'findings.txt', ''.join(f'{line}\n' for line in _lines(checked, shown=None)))
    print(f'{data_list}: read {checked.counts[0]} images, {checked.counts[1]} labels and {checked.counts[2]} '
          'over-segmentations')
    print('\n'.join(_lines(checked, _SHOWN)))
    if checked.findings:
        print(f'all findings: {save_dir / "findings.txt"}')
    if checked.counts[1] or checked.images.any():
        print('\n'.join(_balance(checked, class_names)))
    if fix is not None:
        path = save_dir / data_list.name
        # A label that could not be read stays in the list as it was, and in the findings.
        write_text(path, format_list(path, entries, lambda entry: corrected.get(entry.semantic, entry.semantic)))
        print(f'corrected labels: {save_dir / "labels"}\ntheir list: {path}')
    return checked


def _lines(checked, shown):
    """Return the findings by name as lines of text, at most `shown` (None: all) of each."""
    lines = []
    for severity, headings in (('wrong', WRONG), ('suspicious', SUSPICIOUS)):
        for name, title in headings.items():
            found = [finding for finding in checked.findings if finding.name == name]
            if found:
                lines += [f'{severity}: {title}: {len(found)}', *(f'    {finding}' for finding in found[:shown])]
                if len(found) > len(found[:shown]):
                    lines.append(f'    ... and {len(found) - shown} more')
    return lines or ['nothing is wrong']


def _balance(checked, class_names):
    number, total = len(class_names), max(1, checked.pixels.sum())
    labelled = max(1, checked.pixels[:number].sum())
    width = max(len(name) for name in class_names)
    yield f'{"class":{width + 4}} {"labelled pixels":>16} {"images":>8}'
    for value, name in enumerate(class_names):
        yield f'{value:3} {name:{width}} {100 * checked.pixels[value] / labelled:14.2f} % {checked.images[value]:8}'
    if not checked.counts[1]:
        return
    yield (f'of all pixels {100 * checked.pixels[:number].sum() / total:.1f} % are labelled, '
           f'{100 * checked.pixels[number:VOID].sum() / total:.1f} % unlabelled, '
           f'{100 * checked.pixels[VOID] / total:.1f} % void')
