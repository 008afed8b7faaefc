import json
import sys
import types

import cv2
import numpy as np
import pytest
import torch

from spml.errors import ResourceError
from spml.utils.memory import is_out_of_memory, memory_advice, note_gpu_memory


def raised_by(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


@pytest.mark.parametrize('error', [
    raised_by(lambda: torch.empty(2 ** 60)), raised_by(lambda: np.empty(2 ** 55, np.uint8)), MemoryError(),
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB'),
    RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'), RuntimeError('MPS backend out of memory'),
    raised_by(lambda: cv2.copyMakeBorder(np.zeros((1, 1, 3)), 2 ** 30, 0, 2 ** 30, 0, 0))],
    ids=['torch', 'numpy', 'python', 'cuda', 'cudnn', 'mps', 'opencv'])
def test_every_allocator_is_understood(error):
    assert is_out_of_memory(error)
    with pytest.raises(ResourceError, match='iteration 7: out of memory; lower it') as caught, \
            memory_advice('iteration 7', 'lower it'):
        raise error
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('error', [RuntimeError('shapes differ'), ValueError('out of memory'), KeyError('x'),
                                   OSError(12, 'Cannot allocate memory')])
def test_other_errors_pass(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), memory_advice('iteration 7', 'lower it'):
        raise error


@pytest.fixture
def note(tmp_path, monkeypatch):
    """The pipeline's file, and a torch that held 7 bytes on its GPU."""
    cuda = types.SimpleNamespace(is_initialized=lambda: True, max_memory_allocated=lambda: 7)
    monkeypatch.setitem(sys.modules, 'torch', types.SimpleNamespace(cuda=cuda))
    monkeypatch.setenv('SPML_USAGE', str(tmp_path / 'usage.json'))
    return tmp_path / 'usage.json'


def test_the_first_process_notes_its_gpu_memory(note, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    note_gpu_memory()
    assert not note.exists()
    monkeypatch.setenv('RANK', '0')
    note_gpu_memory()
    assert json.loads(note.read_text()) == {'gpu_memory': 7}


def test_nothing_is_noted_without_a_pipeline_or_a_gpu(note, monkeypatch):
    monkeypatch.setattr(sys.modules['torch'].cuda, 'is_initialized', lambda: False)
    note_gpu_memory()
    monkeypatch.delitem(sys.modules, 'torch')
    note_gpu_memory()
    monkeypatch.delenv('SPML_USAGE')
    note_gpu_memory()
    assert not note.exists()


def test_a_file_that_cannot_be_written_is_a_note(note, monkeypatch, capsys):
    monkeypatch.setenv('SPML_USAGE', str(note.parent / 'nowhere' / 'usage.json'))
    note_gpu_memory()
    assert 'is not recorded' in capsys.readouterr().err
