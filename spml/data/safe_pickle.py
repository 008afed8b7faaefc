"""Reading a pickled `.npy` object (the CAM dicts of SEAM) without letting the pickle run anything.

A pickle names the functions to call, so one from a stranger can do whatever they like. Here the names that numpy writes
for arrays and scalars are allowed, and calls of them are only noted; every other name is refused. The arrays are then
built from the notes: from checked shapes, number types and plain bytes. Python's own unpickler is not used: it takes
memory for whatever size a file states.
"""
import io
import math
import pickle
import pickletools

import numpy as np

from spml.utils.archives import array_header

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
    shape, dtype = array_header(source)
    if dtype != np.dtype(object) or shape != ():
        raise pickle.UnpicklingError(f'holds a plain array of shape {shape} and type {dtype}, not one pickled object')
    outer = _read(source)
    if not isinstance(outer, _Call) or outer.name != '_reconstruct' or len(outer.state[4]) != 1:
        raise pickle.UnpicklingError('does not hold exactly one object')
    value, build = outer.state[4][0], _Builder(len(source.getbuffer()))
    return {build(key): build(item) for key, item in value.items()} if isinstance(value, dict) else build(value)


# Opcodes that stand for the value that they hold. A string of Python 2 is text here, each character a byte of it.
_VALUES = (
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING', 'BINSTRING',
    'SHORT_BINSTRING', 'UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES',
    'BINBYTES8', 'BYTEARRAY8')
_CONSTANTS = {'NONE': lambda: None, 'NEWTRUE': lambda: True, 'NEWFALSE': lambda: False, 'EMPTY_TUPLE': tuple,
              'EMPTY_LIST': list, 'EMPTY_DICT': dict}


def _read(source):
    """Return the object that the pickle in a binary file ends with.

    Its opcodes are read one by one: no size that the file states takes memory, only what is there.
    """
    stack, marks, memo = [], [], {}

    def pop(number):
        if len(stack) - (marks[-1] if marks else 0) < number:
            raise pickle.UnpicklingError('damaged (too few values)')
        items = stack[len(stack) - number:]
        del stack[len(stack) - number:]
        return items

    def since_mark():
        items = pop(len(stack) - marks[-1])
        marks.pop()
        return items

    def put(index):
        memo[len(memo) if index is None else int(index)] = stack[-1]

    def reduce(_):
        function, arguments = pop(2)
        stack.append(_expect(_Call, function)(*_expect(tuple, arguments)))

    def build(_):
        state, = pop(1)
        _expect(_Call, stack[-1]).build(state)

    def name(argument):
        stack.append(_named(*(argument.split(' ', 1) if argument else pop(2))))

    def extend(items):
        _expect(list, stack[-1]).extend(items)

    def fill(items):
        _fill(_expect(dict, stack[-1]), items)

    actions = {
        **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), lambda _: None), **dict.fromkeys(_VALUES, stack.append),
        **{opcode: lambda _, make=make: stack.append(make()) for opcode, make in _CONSTANTS.items()},
        **dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'), put),
        **dict.fromkeys(('GET', 'BINGET', 'LONG_BINGET'), lambda index: stack.append(memo[int(index)])),
        'REDUCE': reduce, 'BUILD': build, 'GLOBAL': name, 'STACK_GLOBAL': name,
        'MARK': lambda _: marks.append(len(stack)),
        'TUPLE1': lambda _: stack.append(tuple(pop(1))), 'TUPLE2': lambda _: stack.append(tuple(pop(2))),
        'TUPLE3': lambda _: stack.append(tuple(pop(3))), 'TUPLE': lambda _: stack.append(tuple(since_mark())),
        'LIST': lambda _: stack.append(since_mark()), 'DICT': lambda _: stack.append(_fill({}, since_mark())),
        'APPEND': lambda _: extend(pop(1)), 'APPENDS': lambda _: extend(since_mark()),
        'SETITEM': lambda _: fill(pop(2)), 'SETITEMS': lambda _: fill(since_mark())}
    for opcode, argument, _ in pickletools.genops(source):
        if opcode.name not in actions:
            raise pickle.UnpicklingError(f'refused: the file uses {opcode.name}, which arrays and plain values do not '
                                         'need')
        actions[opcode.name](argument)
    return stack.pop()


def _expect(expected, value):
    if not isinstance(value, expected):
        raise pickle.UnpicklingError(
            f'refused: the file treats a {type(value).__name__} as a {expected.__name__.lower()}')
    return value


def _fill(mapping, items):
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Tuples may hold one another, and to hash a short file's would take forever.
        if not isinstance(key, (int, float, str, bytes, _Call, type(None))):
            raise pickle.UnpicklingError(f'holds a dict with a key of type {type(key).__name__}')
        mapping[key] = value
    return mapping


def _named(module, name):
    # Older numpy wrote numpy.core, newer ones write numpy._core.
    if (module.replace('numpy._core.', 'numpy.core.'), name) not in _ALLOWED:
        raise pickle.UnpicklingError(f'refused: the file asks for {module}.{name}; only numpy arrays are allowed')
    return _Call(name)


class _Call:
    """A function that a pickle names, then what it calls it with, then the state that it gives the result."""

    __slots__ = ('arguments', 'name', 'state')

    def __init__(self, name, arguments=None):
        self.name, self.arguments, self.state = name, arguments, None

    def __call__(self, *arguments):
        if self.arguments is not None or self.name == 'ndarray':
            raise pickle.UnpicklingError(f'refused: the file calls {self.name}')
        return _Call(self.name, arguments)

    def build(self, state):
        """Note the state that the result is given."""
        if self.arguments is None:
            raise pickle.UnpicklingError('refused: the file tries to alter a function')
        self.state = state


class _Builder:
    """Returns the array or number that a call means, and anything else as it is.

    All arrays together have no more bytes than the file: several may share their content there, and do not here.
    """

    def __init__(self, limit):
        self.left = limit

    def __call__(self, value):
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
        self.left -= len(data)
        if len(data) != math.prod(shape) * dtype.itemsize or self.left < 0:
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
    if not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError('holds an array without content')
    return bytes(data)
