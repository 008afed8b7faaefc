"""Files of weights that are refused before torch reads them, and those without pickles."""
import json
import pickle
import re
import struct
import sys
import zipfile

import pytest
import torch
from naive_layers import embedding_network

from spml.errors import CheckpointError
from spml.models import files
from spml.models.files import SAFETENSORS, read_checkpoint, write_safetensors
from spml.models.weights import load_embedding


def packed(path, members, compression):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def parts(content, path):
    torch.save(content, path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_file_that_grows_when_it_is_unpacked_is_refused(tmp_path):
    members = parts({'a': torch.zeros(2_000_000)}, tmp_path / 'a.pth')
    path = packed(tmp_path / 'b.pth', members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    assert torch.load(path, weights_only=True)['a'].numel() == 2_000_000  # it is what torch itself accepts
    with pytest.raises(CheckpointError, match=r'b\.pth.*grows'):
        read_checkpoint(path)
    # One that is repacked as it was is none.
    assert read_checkpoint(packed(tmp_path / 'c.pth', members, zipfile.ZIP_STORED))['a'].numel() == 2_000_000


def test_members_that_share_their_bytes_are_refused(tmp_path):
    members = parts({'a': torch.zeros(9)}, tmp_path / 'a.pth')
    path = packed(tmp_path / 'b.pth', {**members, 'archive/filler': bytes(50_000)}, zipfile.ZIP_STORED)
    content = path.read_bytes()
    # The last entry of the list again and again, and a list that is so much longer.
    end = content.rindex(b'PK\x05\x06')
    entry = content[content.rindex(b'PK\x01\x02'):end]
    start, = struct.unpack_from('<I', content, end + 16)
    number, = struct.unpack_from('<H', content, end + 10)
    tail = struct.pack('<HHIIH', number + 40, number + 40, end - start + 40 * len(entry), start, 0)
    path.write_bytes(content[:end] + 40 * entry + b'PK\x05\x06\0\0\0\0' + tail)
    with pytest.raises(CheckpointError, match=r'b\.pth.*grows'):
        read_checkpoint(path)


@pytest.mark.parametrize('call', [
    b'c__builtin__\nbytearray\n(J\x00\x5e\xd0\xb2tR', b'ctorch\nFloatTensor\n(J\x00\xca\x9a\x3btR',
    b'ctorch.storage\nUntypedStorage\n(J\x00\xca\x9a\x3btR', b'ccollections\nCounter\n)R', b'cos\nsystem\n(S"ls"\ntR'])
@pytest.mark.parametrize('old', [False, True])
def test_names_that_tensors_do_not_need_are_refused(tmp_path, call, old):
    path = tmp_path / 'a.pth'
    hostile = b'\x80\x02}q\x00X\x01\x00\x00\x00a' + call + b's.'
    if old:
        torch.save({'a': 1}, path, _use_new_zipfile_serialization=False)
        first = [pickle.dumps(value, 2) for value in (0x1950a86a20f9469cfc6c, 1001, {'little_endian': True})]
        path.write_bytes(b''.join(first) + hostile + pickle.dumps([], 2))
    else:
        members = parts({'a': 1}, path)
        packed(path, {name: hostile if name.endswith('data.pkl') else data for name, data in members.items()},
               zipfile.ZIP_STORED)
    with pytest.raises(CheckpointError, match=r'a\.pth: not a readable checkpoint.*it asks for'):
        read_checkpoint(path)


@pytest.mark.parametrize('new', [True, False])
def test_what_trainings_write_is_read(tmp_path, identical, new):
    content = {'weights': {'a': torch.randn(3, 4), 'b': torch.nn.Parameter(torch.randn(2)), 'c': torch.arange(3),
                           'd': torch.zeros(2, dtype=torch.bfloat16), 'e': torch.randn(6, 4)[::2].t()},
               'state': [(1, 'x', None, 2.5, True), b'bytes', torch.Size([2])], 'sizes': [3, 4]}
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=new)
    assert identical(read_checkpoint(tmp_path / 'a.pth'), content)


def test_a_torch_that_reads_unsafely_is_named(tmp_path, monkeypatch):
    torch.save({'a': torch.zeros(2)}, tmp_path / 'a.pth')
    write_safetensors(tmp_path / 'a.safetensors', {'part': {'a': torch.ones(2)}}, {})
    for version in ('2.2.0', '2.9.1+cu128'):
        monkeypatch.setattr(torch, '__version__', version)
        with pytest.raises(CheckpointError, match=rf'a\.pth: torch {re.escape(version)} .*install torch 2\.10'):
            read_checkpoint(tmp_path / 'a.pth')
        assert read_checkpoint(tmp_path / 'a.safetensors')['part']['a'].tolist() == [1, 1]
    for version in ('2.10.0', '3.0.0a0'):
        monkeypatch.setattr(torch, '__version__', version)
        assert read_checkpoint(tmp_path / 'a.pth')['a'].tolist() == [0, 0]


def test_setup_asks_for_the_torch_that_reads_safely():
    setup = (files.pathlib.Path(files.__file__).parents[2] / 'setup.py').read_text()
    assert f"'torch>={'.'.join(map(str, files._SAFE_TORCH))}'" in setup


# Safetensors

def test_safetensors_give_back_what_was_written(tmp_path, identical):
    shared = torch.randn(4, 3)
    states = {'embedding_model': {'a.b': shared, 'a.c': shared.t(), 'embedding_model.d': torch.arange(5)},
              'prediction_model': {'a.b': torch.randn(2).to(torch.bfloat16)}}
    write_safetensors(tmp_path / 'a.safetensors', states, {'seed': 3, 'train': {'crop_size': [4, 5]}})
    assert identical(read_checkpoint(tmp_path / 'a.safetensors'),
                     {**states, 'config': {'seed': 3, 'train': {'crop_size': [4, 5]}}})


def test_safetensors_of_others_are_flat_weights(tmp_path):
    import safetensors.torch
    source, model = embedding_network(14, 'deeplab', 4), embedding_network(14, 'deeplab', 4)
    state = {key: torch.randn_like(value) if value.is_floating_point() else value
             for key, value in source.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / f'a{SAFETENSORS}')
    load_embedding(model, tmp_path / f'a{SAFETENSORS}')
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('content', [
    b'', b'junk', struct.pack('<Q', 2 ** 62) + b'{}', struct.pack('<Q', 9) + b'[' * 9,
    b'%s' % struct.pack('<Q', 80) + json.dumps({'a': {'dtype': 'F32', 'shape': [1 << 30], 'data_offsets': [
        0, 1 << 32]}}).ljust(80).encode()])
def test_a_damaged_safetensors_is_one_line(tmp_path, content):
    (tmp_path / f'a{SAFETENSORS}').write_bytes(content)
    with pytest.raises(CheckpointError, match=r'a\.safetensors: not a readable checkpoint') as caught:
        read_checkpoint(tmp_path / f'a{SAFETENSORS}')
    assert '\n' not in str(caught.value)


def test_without_the_package_the_way_out_is_named(tmp_path, monkeypatch):
    (tmp_path / f'a{SAFETENSORS}').write_bytes(b'')
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(CheckpointError, match=r"pip install -e '\.\[safetensors\]'"):
        read_checkpoint(tmp_path / f'a{SAFETENSORS}')
