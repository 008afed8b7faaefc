import cv2
import numpy as np
import pytest
import torch

from spml.errors import ResourceError
from spml.utils.memory import is_out_of_memory, memory_advice


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
