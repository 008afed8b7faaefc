"""Kinds of configuration values: each turns what YAML gives into one plain value, or refuses it.

Strict where YAML is lax (true is no integer, 3.0 is no integer, null is no string) and lax only where YAML surprises
(`3e-3`, a string in YAML 1.1, is a number here). A kind's `parse` returns the value in its one canonical form and
raises ValueError for any other; the caller, who knows the key and the file, writes the message from `expects`.
"""
import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

# What YAML 1.1 takes for a string because the dot or the sign of the exponent is missing.
_EXPONENT_FLOAT = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+')


class Kind(NamedTuple):
    """What a key accepts.

    `expects` completes "expected ..."; `parse` maps a YAML value to the canonical value or raises ValueError; `is_list`
    and `is_text` tell how to read an override on the command line; `choices` are the words allowed, if they are few.
    """

    expects: str
    parse: Callable
    is_list: bool = False
    is_text: bool = False
    choices: tuple = ()


def boolean():
    """Return the kind true or false."""
    return Kind('true or false', lambda value: _require(value, isinstance(value, bool)))


def integer(low, high=None):
    """Return the kind of integers in `low`..`high` (unbounded above when `high` is None)."""
    def parse(value):
        return _require(value, type(value) is int and low <= value and (high is None or value <= high))
    return Kind(f'an integer of at least {low}' if high is None else f'an integer in {low}..{high}', parse)


def number(expects, allowed):
    """Return the kind of finite floats for which `allowed(value)` holds; `expects` says which these are."""
    def parse(value):
        value = _float(value)
        return _require(value, allowed(value))
    return Kind(expects, parse)


def constant(only, why):
    """Return the kind that has one value, `only`."""
    return Kind(f'{only}: {why}', lambda value: _require(value, type(value) is type(only) and value == only))


def text(expects):
    """Return the kind of strings, the empty one included."""
    return Kind(expects, lambda value: _require(value, isinstance(value, str)), is_text=True)


def choice(*words):
    """Return the kind of strings that are one of `words`."""
    expects = f'one of {", ".join(words)}'
    return Kind(expects, lambda value: _require(value, isinstance(value, str) and value in words),
                is_text=True, choices=words)


def subset(*words):
    """Return the kind of lists of some of `words`, each at most once; canonical in the order of `words`."""
    def parse(value):
        value = _list(value)
        _require(value, all(isinstance(item, str) and item in words for item in value) and _distinct(value))
        return [word for word in words if word in value]
    return Kind(f'a list of some of {", ".join(words)}, each at most once', parse, is_list=True, choices=words)


def pair():
    """Return the kind [height, width]: two integers of at least 1."""
    def parse(value):
        value = _list(value)
        return _require(value, len(value) == 2 and all(type(item) is int and item >= 1 for item in value))
    return Kind('[height, width], two integers of at least 1', parse, is_list=True)


def triple(expects, allowed):
    """Return the kind of lists of three finite floats (R, G, B) for each of which `allowed(value)` holds."""
    def parse(value):
        value = [_float(item) for item in _list(value)]
        return _require(value, len(value) == 3 and all(allowed(item) for item in value))
    return Kind(expects, parse, is_list=True)


def increasing():
    """Return the kind of lists of strictly increasing integers of at least 1; the empty list is one."""
    def parse(value):
        value = _list(value)
        _require(value, all(type(item) is int and item >= 1 for item in value))
        return _require(value, all(low < high for low, high in itertools.pairwise(value)))
    return Kind('a list of increasing integers of at least 1', parse, is_list=True)


def names():
    """Return the kind of lists of distinct, non-empty strings."""
    def parse(value):
        value = _list(value)
        return _require(value, all(isinstance(item, str) and item.strip() for item in value) and _distinct(value))
    return Kind('a list of distinct, non-empty strings (quote those that YAML reads as numbers or booleans)', parse,
                is_list=True)


def colours():
    """Return the kind of non-empty lists of colours [R, G, B], integers in 0..255."""
    def parse(value):
        value = [_list(item) for item in _list(value)]
        _require(value, value and all(len(item) == 3 for item in value))
        return _require(value, all(type(part) is int and 0 <= part <= 255 for item in value for part in item))
    return Kind('a list of colours [R, G, B], integers in 0..255', parse, is_list=True)


def device_numbers():
    """Return the kind of GPU numbers: `0`, `'0,1'` or `[0, 1]`, canonically the string '0,1'."""
    def parse(value):
        if type(value) is int:
            value = [value]
        items = value.split(',') if isinstance(value, str) else _list(value)
        items = [int(item) if isinstance(item, str) else item for item in items]
        _require(value, items and all(type(item) is int and item >= 0 for item in items) and _distinct(items))
        return ','.join(str(item) for item in items)
    return Kind("distinct GPU numbers such as 0 or '0,1' (to use none, pass --device cpu)", parse, is_text=True)


def _require(value, condition):
    if not condition:
        raise ValueError(value)
    return value


def _list(value):
    _require(value, isinstance(value, (list, tuple)))
    return list(value)


def _distinct(items):
    return len(set(items)) == len(items)


def _float(value):
    readable = type(value) in (int, float) or (isinstance(value, str) and _EXPONENT_FLOAT.fullmatch(value))
    _require(value, readable)
    try:
        value = float(value)
    except OverflowError:  # an integer beyond the largest float
        value = math.inf
    return _require(value, math.isfinite(value))
