"""Types of configuration values: each turns what YAML gives into one plain value, or refuses it.

Strict where YAML is lax (neither true nor 3.0 is an integer, null is not a string) and lax only where YAML surprises
(`3e-3`, a string in YAML 1.1, is a number here). A type's `parse` returns the value in its one canonical form and
raises ValueError for any other; the caller, who knows the key and the file, writes the message from `expects`.
"""
import itertools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

# What YAML 1.1 takes for a string because the dot or the sign of the exponent is missing.
_EXPONENT_FLOAT = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+')


class Type(NamedTuple):
    """What a key accepts.

    `expects` completes "expected ..."; `parse` maps a YAML value to the canonical value or raises ValueError; `is_list`
    and `is_text` tell how to read an override on the command line; `choices` are the words allowed, if they are few.
    """

    expects: str
    parse: Callable
    is_list: bool = False
    is_text: bool = False
    choices: tuple = ()


def _require(value, condition):
    if not condition:
        raise ValueError(value)
    return value


def _distinct(items):
    return len(set(items)) == len(items)


def integer(low, high=None):
    """Return the type of integers in `low`..`high` (unbounded above when `high` is None)."""
    def parse(value):
        return _require(value, type(value) is int and low <= value and (high is None or value <= high))
    return Type(f'an integer of at least {low}' if high is None else f'an integer in {low}..{high}', parse)


def number(expects, allowed=lambda value: True):
    """Return the type of finite floats for which `allowed(value)` holds; `expects` says which these are."""
    def parse(value):
        _require(value, type(value) in (int, float) or (isinstance(value, str) and _EXPONENT_FLOAT.fullmatch(value)))
        try:
            value = float(value)
        except OverflowError:  # an integer beyond the largest float
            value = math.inf
        return _require(value, math.isfinite(value) and allowed(value))
    return Type(expects, parse)


def constant(only, why):
    """Return the type that has one value, `only`."""
    return Type(f'{only}: {why}', lambda value: _require(value, type(value) is type(only) and value == only))


def text(expects):
    """Return the type of strings, the empty one included."""
    return Type(expects, lambda value: _require(value, isinstance(value, str)), is_text=True)


def choice(*words):
    """Return the type of strings that are one of `words`."""
    return Type(f'one of {", ".join(words)}', lambda value: _require(value, isinstance(value, str) and value in words),
                is_text=True, choices=words)


def listing(expects, item, allowed):
    """Return the type of lists of values of the type `item` for which `allowed(list)` holds."""
    def parse(value):
        _require(value, isinstance(value, (list, tuple)))
        items = [item.parse(part) for part in value]
        return _require(items, allowed(items))
    return Type(expects, parse, is_list=True)


def subset(*words):
    """Return the type of lists of some of `words`, each at most once; canonical in the order of `words`."""
    some = listing(f'a list of some of {", ".join(words)}, each at most once', choice(*words), _distinct)
    return some._replace(parse=lambda value: sorted(some.parse(value), key=words.index), choices=words)


def triple(expects, allowed=lambda value: True):
    """Return the type of lists of three finite floats (R, G, B) for each of which `allowed(value)` holds."""
    return listing(expects, number(expects, allowed), lambda items: len(items) == 3)


def table(expects, rows, columns):
    """Return the type of dicts {row: {column: value}} of some of `rows`, words; `columns` maps words to types.

    Canonical in the order of both.
    """
    def parse(value):
        _require(value, isinstance(value, dict) and value.keys() <= {*rows} and all(
            isinstance(row, dict) and row.keys() <= columns.keys() for row in value.values()))
        return {name: {key: column.parse(value[name][key]) for key, column in columns.items() if key in value[name]}
                for name in rows if name in value}
    return Type(expects, parse)


def device_numbers():
    """Return the type of GPU numbers: `0`, `'0,1'` or `[0, 1]`, canonically the string '0,1'."""
    numbers = listing('numbers', integer(0), lambda items: items and _distinct(items))

    def parse(value):
        if type(value) is int:
            value = [value]
        elif isinstance(value, str):
            value = [int(item) for item in value.split(',')]
        elif isinstance(value, list):
            value = [int(item) if isinstance(item, str) else item for item in value]
        return ','.join(map(str, numbers.parse(value)))
    return Type("distinct GPU numbers such as 0 or '0,1' (to use none, pass --device cpu)", parse, is_text=True)


BOOLEAN = Type('true or false', lambda value: _require(value, isinstance(value, bool)))
PAIR = listing('[height, width], two integers of at least 1', integer(1), lambda items: len(items) == 2)
INCREASING = listing('a list of increasing integers of at least 1', integer(1),
                     lambda items: all(low < high for low, high in itertools.pairwise(items)))
NAMES = listing('a list of distinct, non-empty strings (quote those that YAML reads as numbers or booleans)',
                text('a name'), lambda items: _distinct(items) and all(item.strip() for item in items))
COLOURS = listing('a list of colours [R, G, B], integers in 0..255',
                  listing('a colour', integer(0, 255), lambda items: len(items) == 3), bool)
