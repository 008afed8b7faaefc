"""What a stage's process tells its pipeline: the memory of its tensors on a GPU."""
import json
import sys
import types

import pytest

from spml.utils.memory import note_gpu_memory


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
