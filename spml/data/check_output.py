"""What `check_data.py` prints and writes: findings by name, the class balance, corrected labels and their list."""
import os

from spml.data.check import SUSPICIOUS, WRONG, check_list
from spml.data.lists import format_list, parse_list
from spml.errors import DataError
from spml.names import VOID
from spml.utils.formats import write_png, write_text

_SHOWN = 5


def check_and_print(data_list, data_dir, num_classes, class_names, save_dir, num_workers, val_list, fix,
                    allow_absolute):
    """Run `check_list`, print the findings and the class balance, write `save_dir/findings.txt`, and return Checked.

    `fix` is None, or a Fix whose corrected labels are written under `save_dir/labels/`, with the list of them under its
    own name, and checked in place of the labels as they are.
    """
    corrected = {}
    if fix is not None:
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
