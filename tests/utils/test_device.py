import os
import subprocess
import sys

import pytest
import torch

from spml.errors import ConfigError
from spml.utils import device
from spml.utils.device import chunk_elements, pick_device, steady_convolutions

CONVOLVE = """
import torch
from spml.utils.device import steady_convolutions
SAY
generator = torch.Generator().manual_seed(SEED)
images, weights = (torch.randn(*size, generator=generator) for size in ((2, 64, 24, 24), (256, 64, 1, 1)))
print(torch.nn.functional.conv2d(images, weights).numpy().tobytes().hex())
"""


def test_without_a_name_the_best_there_is(monkeypatch):
    assert pick_device().type == ('cuda' if torch.cuda.is_available() else 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert pick_device() == pick_device('cpu') == torch.device('cpu')


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


@pytest.fixture
def variable(monkeypatch):
    """Restore the variable after a test, and start it without."""
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', '')
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA')


@pytest.mark.usefixtures('variable')
@pytest.mark.parametrize(('precision', 'expected'), [('fp32', 'AVX2'), ('tf32', 'AVX2'), ('bf16', None)])
def test_which_precisions_keep_to_avx2(precision, expected):
    steady_convolutions(precision)
    assert os.environ.get('ONEDNN_MAX_CPU_ISA') == expected


@pytest.mark.usefixtures('variable')
def test_what_the_user_says_of_instructions_stands():
    os.environ['ONEDNN_MAX_CPU_ISA'] = 'ALL'
    steady_convolutions('fp32')
    assert os.environ['ONEDNN_MAX_CPU_ISA'] == 'ALL'


@pytest.mark.usefixtures('variable')
def test_a_convolution_after_it_is_that_of_avx2():
    # Said within the process, although torch is loaded, it does what it does from outside.
    seed = str(torch.seed() % 1000)
    started = [subprocess.Popen([sys.executable, '-c', CONVOLVE.replace('SAY', say).replace('SEED', seed)],
                                env={**os.environ, **environment}, stdout=subprocess.PIPE)
               for say, environment in (('steady_convolutions("fp32")', {}), ('', {'ONEDNN_MAX_CPU_ISA': 'AVX2'}))]
    found = [process.communicate()[0] for process in started]
    assert len(found[0]) > 1000
    assert found[0] == found[1]
