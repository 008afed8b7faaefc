"""Reading a pickled `.npy` object (the CAM dicts of SEAM) without letting the pickle run anything.

A pickle names the functions to call, so one from a stranger can do whatever they like. This reader resolves exactly the
names that numpy writes for arrays and scalars, each to a stand-in of its own that only notes its arguments; every other
name is refused before anything is called. Not even numpy's own reconstruction code sees the file's bytes: arrays are
built at the end, from checked shapes, checked number types and plain bytes.
"""
import io
import math
import pickle
import pickletools

import numpy as np

_NUMBER_CODES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1')


def load_object(content):
    """Return the single object in the bytes of a pickled `.npy` file: dicts, lists, tuples, numbers, text and arrays.

    Raises:
        pickle.UnpicklingError: the file is not such a file, or needs more than numpy arrays and plain values. Nothing
            in it has been executed.
    """
    try:
        return _load(io.BytesIO(content))
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way; which one helps nobody
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
    if not isinstance(outer, _Array) or not isinstance(outer.data, list) or len(outer.data) != 1:
        raise pickle.UnpicklingError('does not hold exactly one object')
    return _finish(outer.data[0])


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
        function = _STAND_INS.get((module.replace('numpy._core.', 'numpy.core.'), name))
        if function is None:
            raise pickle.UnpicklingError(f'refused: the file asks for {module}.{name}; only numpy arrays are allowed')
        return _StandIn(function)

    def persistent_load(self, pid):
        raise pickle.UnpicklingError('refused: the file refers to objects outside itself')


class _StandIn:
    """A function that a pickle may call but not alter."""

    __slots__ = ('function',)

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __setstate__(self, state):
        raise pickle.UnpicklingError('refused: the file tries to alter the reader')


class _Dtype:
    __slots__ = ('code', 'order')

    def __init__(self, code, *_):
        self.code, self.order = code, '='

    def __setstate__(self, state):
        self.order = state[1]

    def number_type(self):
        """Return the numpy type; only plain numbers are admitted."""
        code = self.code.decode('ascii') if isinstance(self.code, bytes) else self.code
        order = self.order.decode('ascii') if isinstance(self.order, bytes) else self.order
        if code not in _NUMBER_CODES or order not in ('<', '>', '=', '|'):
            raise pickle.UnpicklingError(f'holds an array of type {code!r}; only numbers are allowed')
        return np.dtype(order + code)


class _Array:
    __slots__ = ('data', 'dtype', 'is_fortran', 'shape')

    def __init__(self, *_):
        self.__setstate__((1, (), None, False, None))

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def array(self):
        """Build the numpy array."""
        data = self.data.encode('latin1') if isinstance(self.data, str) else self.data
        dtype = self.dtype.number_type()
        if not isinstance(data, (bytes, bytearray)) or len(data) != math.prod(self.shape) * dtype.itemsize:
            raise pickle.UnpicklingError('holds an array whose size does not fit its content')
        return np.frombuffer(data, dtype).reshape(self.shape, order='F' if self.is_fortran else 'C').copy()


class _Scalar(_Array):
    __slots__ = ()

    def __init__(self, dtype, data):
        super().__init__()
        self.__setstate__((1, (), dtype, False, data))


def _from_buffer(data, dtype, shape, order):
    array = _Array()
    array.__setstate__((1, shape, dtype, order == 'F', bytes(data)))
    return array


def _encode(text, encoding):
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'refused: text in the encoding {encoding!r}')
    return text.encode('latin1')


def _never(*_):
    raise pickle.UnpicklingError('refused: the file calls numpy.ndarray itself')


_STAND_INS = {
    ('numpy.core.multiarray', '_reconstruct'): _Array,
    ('numpy.core.multiarray', 'scalar'): _Scalar,
    ('numpy.core.numeric', '_frombuffer'): _from_buffer,
    ('numpy', 'ndarray'): _never,
    ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _encode,
}


def _finish(value):
    """Replace the noted arrays inside a dict (its keys and values, one level) or alone by numpy's."""
    if isinstance(value, dict):
        return {_finish_leaf(key): _finish_leaf(item) for key, item in value.items()}
    return _finish_leaf(value)


def _finish_leaf(value):
    if isinstance(value, _Scalar):
        return value.array()[()]
    return value.array() if isinstance(value, _Array) else value
