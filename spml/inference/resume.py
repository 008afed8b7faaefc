"""Going on where an earlier run over the same images ended.

`arguments.json`, in the folder of the results, says what they depend on. As long as that is the same, an image counts
as done when its files stand and are younger than `arguments.json` and than every file they were made from; otherwise
everything is made again. Dates do it without a list of what is done, which a kill could leave behind the truth.
"""
import hashlib
import json
import pathlib

import torch

from spml import config as configuration
from spml.data.lists import digest
from spml.names import __version__
from spml.utils import distributed
from spml.utils.atomic import remove_abandoned
from spml.utils.formats import write_json

FILE_NAME = 'arguments.json'
# What a result depends on; keys of these sections that cannot matter are left out.
_SECTIONS = ('dataset', 'network', 'test')
_WITHOUT_EFFECT = ('dataset.class_names', 'dataset.allow_absolute_paths', 'network.pretrained', 'network.frozen_stages')


def describe(result, config, entries, data_dir, **options):
    """Return the dict that stands for everything the results of a run depend on, as JSON can hold it.

    Args:
        result: what is made, for example `prototypes`.
        config: the resolved configuration.
        entries: `Entry` objects of the list.
        data_dir: folder that the list's paths start from.
        options: what else matters; for networks and arrays their `fingerprint`.
    """
    settings = {f'{section}.{key}': value for section in _SECTIONS
                for key, value in configuration.to_dict(config)[section].items()}
    arguments = {'result': result, 'version': __version__, 'list': digest(entries),
                 'data_dir': str(pathlib.Path(data_dir).resolve()), **options,
                 **{name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}}
    return json.loads(json.dumps(arguments))


def fingerprint(tensors):
    """Return a short text that stands for a dict of tensors: their names, shapes, types and values."""
    state = hashlib.blake2b(digest_size=12)
    for name, tensor in sorted(tensors.items()):
        state.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}\n'.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


def remaining(entries, save_dir, arguments, outputs, inputs, overwrite=False, exclusive=False):
    """Return the entries whose results have to be made, the same in every process, and say how many stand already.

    Args:
        entries: `Entry` objects.
        save_dir: folder of the results.
        arguments: of `describe`.
        outputs: function from an image name to the paths of its results, the one written last in the first place.
        inputs: function from an entry to the paths of the files its results are made from.
        overwrite: make everything again.
        exclusive: what reads the folder reads all of it, so results of images outside the list go when the list
            changes. When anything else changes they always go: of two kinds nobody could tell which is which.
    """
    numbers = None
    if distributed.rank() == 0:
        numbers = _remaining_numbers(entries, pathlib.Path(save_dir), arguments, outputs, inputs, overwrite, exclusive)
    # One process decides for all: the others would see results that the first have begun to write.
    return [entries[number] for number in distributed.gather_objects(numbers)[0]]


def _remaining_numbers(entries, save_dir, arguments, outputs, inputs, overwrite, exclusive):
    remove_abandoned(save_dir)
    path = save_dir / FILE_NAME
    before = _read_json(path)
    if overwrite or before != arguments:
        write_json(path, arguments)
        if before is not None and before != arguments:
            names = [name for name in sorted({*before, *arguments}) if before.get(name) != arguments.get(name)]
            removed = _remove_others(entries, outputs) if exclusive or {*names} - {'list', 'data_dir'} else 0
            print(f'{save_dir}: holds results of other arguments ({", ".join(names)}); all are made again'
                  + (f', and those of {removed} images that are not in the list are removed' if removed else ''))
        return list(range(len(entries)))
    began = path.stat().st_mtime_ns
    numbers = [number for number, entry in enumerate(entries)
               if not _is_done(outputs(entry.name), inputs(entry), began)]
    if len(numbers) < len(entries):
        print(f'{save_dir}: {len(entries) - len(numbers)} of {len(entries)} images are done already')
    return numbers


def _remove_others(entries, outputs):
    """Remove the results of images that are not in the list; return of how many."""
    listed, removed = {entry.name for entry in entries}, set()
    for pattern in outputs('*'):
        for path in pattern.parent.glob(pattern.name):
            if path.stem not in listed:
                path.unlink()
                removed.add(path.stem)
    return len(removed)


def _is_done(outputs, inputs, began):
    """Whether all outputs stand and the first is younger than the inputs (in case of doubt: not) and than `began`."""
    try:
        written = outputs[0].stat().st_mtime_ns
        # A machine that failed may leave a file without content.
        return (all(path.stat().st_size > 0 for path in outputs) and written > began
                and all(path.stat().st_mtime_ns < written for path in inputs))
    except OSError:
        return False


def _read_json(path):
    """Return the dict in a JSON file, or None where there is none."""
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
