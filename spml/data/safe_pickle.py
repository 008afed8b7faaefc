"""Reading a pickled `.npy` object (the CAM dicts of SEAM) without letting the pickle run anything.

A pickle names the functions to call, so one from a stranger can do whatever they like. Here the names that numpy writes
for arrays and scalars are allowed, and calls of them are only noted; every other name is refused. The arrays are then
built from the notes: from checked shapes, number types and plain bytes.
"""
import io
import math
import pickle
import pickletools

import numpy as np

_NUMBER_CODES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1')
_ALLOWED = {('numpy.core.multiarray', '_reconstruct'), ('numpy.core.multiarray', 'scalar'),
            ('numpy.core.numeric', '_frombuffer'), ('numpy', 'ndarray'), ('numpy', 'dtype'), ('_codecs', 'encode')}


def load_object(content):
    """Return the single object in the bytes of a pickled `.npy` file: dicts, lists, tuples, numbers, text and arrays.

    pickle.UnpicklingError: the file is not such a file, or needs more than numpy arrays and plain values. Nothing in it
    has been executed.
    """
    try:
        return _load(io.BytesIO(content))
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way; how does not matter
        raise pickle.UnpicklingError(f'damaged ({type(error).__name__})') from None


def _load(source):
    version = np.lib.format.read_magic(source)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(source)
    if dtype != np.dtype(object) or shape != ():
        raise pickle.UnpicklingError(f'holds a plain array of shape {shape} and type {dtype}, not one pickled object')
    _check_memo(source)
    # latin1 is how numpy reads what Python 2 wrote: each character of a string is then one byte of it.
    outer = _Unpickler(source, encoding='latin1').load()
    if not isinstance(outer, _Call) or outer.name != '_reconstruct' or len(outer.state[4]) != 1:
        raise pickle.UnpicklingError('does not hold exactly one object')
    value = outer.state[4][0]
    return {_built(key): _built(item) for key, item in value.items()} if isinstance(value, dict) else _built(value)


def _check_memo(source):
    """Refuse memo indices that no file of this size needs: the unpickler allocates up to the index, many gigabytes."""
    start, limit = source.tell(), len(source.getbuffer())
    for opcode, argument, _ in pickletools.genops(source):
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and int(argument) > limit:
            raise pickle.UnpicklingError(f'refused: the file asks for a memo of {argument} entries')
    source.seek(start)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        # Older numpy wrote numpy.core, newer ones write numpy._core.
        if (module.replace('numpy._core.', 'numpy.core.'), name) not in _ALLOWED:
            raise pickle.UnpicklingError(f'refused: the file asks for {module}.{name}; only numpy arrays are allowed')
        return _Call(name)

    def persistent_load(self, pid):
        raise pickle.UnpicklingError('refused: the file refers to objects outside itself')


class _Call:
    """A function that a pickle names, then what it calls it with, then the state that it gives the result."""

    __slots__ = ('arguments', 'name', 'state')

    def __init__(self, name, arguments=None):
        self.name, self.arguments, self.state = name, arguments, None

    def __call__(self, *arguments):
        if self.arguments is not None or self.name == 'ndarray':
            raise pickle.UnpicklingError(f'refused: the file calls {self.name}')
        return _Call(self.name, arguments)

    def __setstate__(self, state):
        if self.arguments is None:
            raise pickle.UnpicklingError('refused: the file tries to alter a function')
        self.state = state


def _built(value):
    """Return the array or number that a call means, and anything else as it is."""
    if not isinstance(value, _Call):
        return value
    if value.name == '_reconstruct':
        _, shape, dtype, is_fortran, data = value.state
    elif value.name == 'scalar':
        (dtype, data), shape, is_fortran = value.arguments, (), False
    else:
        data, dtype, shape, order = value.arguments
        is_fortran = order == 'F'
    dtype, data = _number_type(dtype), _bytes(data)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise pickle.UnpicklingError('holds an array whose size does not fit its content')
    array = np.frombuffer(data, dtype).reshape(shape, order='F' if is_fortran else 'C').copy()
    return array[()] if value.name == 'scalar' else array


def _number_type(call):
    """Return the numpy type that a call of `dtype` means; only plain numbers are allowed."""
    texts = [text.decode('ascii') if isinstance(text, bytes) else text
             for text in (call.arguments[0], call.state[1] if call.state else '=')]
    if call.name != 'dtype' or texts[0] not in _NUMBER_CODES or texts[1] not in ('<', '>', '=', '|'):
        raise pickle.UnpicklingError(f'holds an array of type {texts[0]!r}; only numbers are allowed')
    return np.dtype(texts[1] + texts[0])


def _bytes(data):
    """Return the content of an array, which old protocols write as text: as it is, or through a call of `encode`."""
    if isinstance(data, _Call) and data.name == 'encode' and data.arguments[1] in ('latin1', 'latin-1'):
        data = data.arguments[0]
    data = data.encode('latin1') if isinstance(data, str) else data
    if not isinstance(data, (bytes, bytearray, pickle.PickleBuffer)):
        raise pickle.UnpicklingError('holds an array without content')
    return bytes(data)
