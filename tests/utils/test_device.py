import pytest
import torch

from spml.errors import ConfigError
from spml.utils import device
from spml.utils.device import chunk_elements, pick_device


def test_without_a_name_the_best_there_is(monkeypatch):
    assert pick_device().type == ('cuda' if torch.cuda.is_available() else 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert pick_device() == torch.device('cpu')


def test_a_named_device_is_taken():
    assert pick_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['nonsense', 'cuda:99', 'gpu', '', 'cpu:x'])
def test_a_device_that_is_not_there_is_one_line(name):
    with pytest.raises(ConfigError) as caught:
        pick_device(name)
    assert str(caught.value).startswith(f'--device {name}: ')
    assert '\n' not in str(caught.value)


def test_chunks_fit_the_device(monkeypatch):
    monkeypatch.setattr(device, 'CPU_CHUNK_ELEMENTS', 7)
    monkeypatch.setattr(device, 'CHUNK_ELEMENTS', 900)
    assert chunk_elements(torch.device('cpu')) == 7
    assert chunk_elements(torch.device('meta')) == 900
