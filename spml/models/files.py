"""Files of weights, `.pth` and `.safetensors`: nothing in them is run, and none takes more memory than it holds.

A `.pth` is a pickle. torch reads it with `weights_only`, which is safe from torch 2.10 on (CVE-2025-32434 and
CVE-2026-24747 before); what is left, names that take memory by a number in the file and members that grow when they are
unpacked, is refused here before torch sees the file. A `.safetensors` holds tensors and text and needs no such care.
"""
import errno
import io
import json
import pathlib
import pickletools
import re
import zipfile

import torch

from spml.errors import CheckpointError, first_line, require_module
from spml.utils.archives import members
from spml.utils.files import atomic_path

SAFETENSORS = '.safetensors'
_SAFE_TORCH = (2, 10)
# What torch.save writes for dicts, tensors and plain values, besides storages and types of numbers.
_ALLOWED = {('collections', 'OrderedDict'), ('torch', 'Size'), ('torch', 'device'), ('_codecs', 'encode'),
            ('torch.nn.parameter', 'Parameter'),
            *(('torch._utils', f'_rebuild_{what}') for what in ('tensor', 'tensor_v2', 'parameter'))}
# A file of torch before 1.6 is pickles in a row: a number, a version, the machine, the content, its storages.
_PICKLES = 5


def read_checkpoint(path):
    """Return the dict stored in a `.pth` or `.safetensors`, tensors on the CPU.

    A `.safetensors` that `write_safetensors` wrote gives the dict that it was given, any other one its tensors.
    CheckpointError: the file is absent, damaged, of another kind, needs code, or grows when it is unpacked.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint; train first, or name another file')
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    if _version() < _SAFE_TORCH:
        raise CheckpointError(f'{path}: torch {torch.__version__} cannot be trusted to read it safely (CVE-2025-32434, '
                              f'CVE-2026-24747); install torch {".".join(map(str, _SAFE_TORCH))} or newer, or name a '
                              f'{SAFETENSORS}')
    try:
        _check_pth(path)
        content = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place before the file's start, as a damaged archive states it
            raise
        raise _unreadable(path, error) from None
    except Exception as error:  # torch raises many types for a damaged or unsafe file; all mean the same to the user
        raise _unreadable(path, error) from None
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: holds a {type(content).__name__}, not a dict of weights; '
                              'name a model-*.pth file')
    return content


def write_pth(path, content):
    """Write what `torch.save` takes; durably, as a training may have taken days."""
    # Through a file object: a full disk is then an OSError, which the command line explains, and the temporary name is
    # not in the file, so that the same content gives the same bytes.
    with atomic_path(path, durable=True) as temporary, open(temporary, 'wb') as out:
        try:
            torch.save(content, out)
        except RuntimeError as error:
            # What torch raises while it closes the archive hides why writing failed.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def write_safetensors(path, states, config):
    """Write state dicts, a dict from a part's name to its tensors, and a configuration as a `.safetensors`."""
    library = require_safetensors()
    tensors = {f'{part}.{key}': value.detach().cpu().clone(memory_format=torch.contiguous_format)
               for part, state in states.items() for key, value in state.items()}
    notes = {'format': 'pt', 'parts': json.dumps(list(states)), 'config': json.dumps(config)}
    with atomic_path(path, durable=True) as temporary:
        library.save_file(tensors, temporary, metadata=notes)


def require_safetensors():
    """Return the module safetensors.torch; CheckpointError where it is missing."""
    return require_module('safetensors.torch', f'files that end in {SAFETENSORS} need the package safetensors: pip '
                                               "install -e '.[safetensors]'", CheckpointError)


def _read_safetensors(path):
    library = require_safetensors()
    try:
        with library.safe_open(path, framework='pt') as source:
            notes = source.metadata() or {}
            tensors = {key: source.get_tensor(key) for key in source.keys()}  # noqa: SIM118 (no dict)
        if 'parts' not in notes:
            return tensors
        content = {'config': json.loads(notes['config'])}
        for part in json.loads(notes['parts']):
            content[part] = {key.removeprefix(f'{part}.'): value for key, value in tensors.items()
                             if key.startswith(f'{part}.')}
    except OSError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None
    return content


def _unreadable(path, error):
    return CheckpointError(f'{path}: not a readable checkpoint of tensors alone ({first_line(error)[:200]}); fetch or '
                           'train it again')


def _version():
    return tuple(map(int, re.match(r'(\d+)\.(\d+)', torch.__version__).groups()))


def _check_pth(path):
    """Raise ValueError for a `.pth` that is refused before torch reads it."""
    with open(path, 'rb') as source:
        if not zipfile.is_zipfile(source):
            source.seek(0)
            for _ in range(_PICKLES):
                _check_names(source)
            return
        found = members(source)
        if sum(member.file_size for member in found) > path.stat().st_size or any(
                member.compress_type != zipfile.ZIP_STORED for member in found):
            raise ValueError('it grows when it is unpacked, which torch.save never writes')
        with zipfile.ZipFile(source) as archive:
            for member in found:
                if member.filename.endswith('.pkl'):
                    _check_names(io.BytesIO(archive.read(member)))


def _check_names(source):
    """Read past a pickle; ValueError if it asks for a name that tensors and plain values do not need."""
    for opcode, argument, _ in pickletools.genops(source):
        if opcode.name == 'GLOBAL':
            module, name = argument.split(' ', 1)
            plain = module == 'torch' and (name.endswith('Storage') or isinstance(getattr(torch, name, 0), torch.dtype))
            if not plain and (module, name) not in _ALLOWED:
                raise ValueError(f'it asks for {module}.{name}')
        elif opcode.name in ('STACK_GLOBAL', 'INST', 'NEWOBJ', 'OBJ'):
            raise ValueError(f'it uses {opcode.name}')
