"""Reading, checking and writing configurations.

A configuration goes through one path whatever it comes from (YAML files, a checkpoint, `--set` options): each source is
flattened to `section.key` and laid over the one before, and the result is checked key by key against
`spml.config.schema`, completed with defaults, checked between keys, and handed round as an EasyDict of sections. What
comes out is complete and canonical, so it can be saved and read again to the same.
"""
import difflib
import logging
import pathlib
import re
import reprlib

import yaml
from easydict import EasyDict

from spml.config.schema import OBSOLETE, REQUIRED, SCHEMA, Derived, conflicts
from spml.errors import ConfigError

_LOGGER = logging.getLogger('spml.config')
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_SECTIONS = tuple(dict.fromkeys(name.split('.')[0] for name in SCHEMA if '.' in name))
# Apart from its own errors, the parser raises whatever a malformed value makes Python raise: `!!bool x`, a KeyError.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_TOP_LEVEL = tuple(name for name in SCHEMA if '.' not in name)


def load_config(path, overrides=()):
    """Read the YAML file `path` and return the checked, complete configuration as an EasyDict.

    Its sections are `dataset`, `network`, `train` and `test`; `gpus`, `num_threads` and `seed` are outside of them.
    `base: FILE` at the top names a file, relative to `path`, that holds what `path` does not change; a base has none.
    `overrides` are strings `section.key=value`, the last of a key wins. One warning on the logger `spml.config` names
    the keys that no longer do anything; they are dropped. Raises ConfigError when a file cannot be read, and for
    unknown keys, wrong types and impossible values.
    """
    mapping = read_yaml(path)
    layers = [(mapping, str(path))]
    if isinstance(mapping, dict) and 'base' in mapping:
        name = mapping.pop('base')
        if not (isinstance(name, str) and name):
            raise ConfigError(f'{path}: base is {_show(name)}; expected the name of a YAML file, relative to this one')
        base = pathlib.Path(path).parent / name
        below = read_yaml(base, f'{path} names it as its base')
        if isinstance(below, dict) and 'base' in below:
            raise ConfigError(f'{path}: its base, {base}, has a base itself ({_show(below["base"])}); a base must be '
                              'complete, so put the keys of both in one file')
        layers.insert(0, (below, str(base)))
    return _combine(layers, overrides)


def resolve(mapping, overrides=(), source='configuration'):
    """Return the configuration in a dict of sections like `load_config`; `source` names it in messages."""
    return _combine([(mapping, source)], overrides)


def _combine(layers, overrides):
    """Return the configuration of layers (mapping, source), each laid over the one before, under the overrides."""
    source = layers[-1][1]
    flat_layers = [(_flatten(mapping, where), where) for mapping, where in layers]
    flat_layers += [(dict([_parse_override(override)]), f'--set {override}') for override in overrides]
    values, origins = {}, {}
    for layer, where in flat_layers:
        if 'train.batch_size' in layer:
            # The later word counts: what a layer below says of all processes together ends here.
            layer.setdefault('train.total_batch_size', 0)
        values |= layer
        origins |= dict.fromkeys(layer, where)
    _drop_obsolete(values, origins)
    flat = _check_values(values, origins, source)
    for name, message in conflicts(flat):
        raise ConfigError(f'{origins.get(name, source)}: {name} {message}')
    config = {}
    for name, value in flat.items():
        section, _, leaf = name.rpartition('.')
        (config.setdefault(section, {}) if section else config)[leaf] = value
    return EasyDict(config)


def check_override(override, where=None):
    """Return the key of `section.key=value` and the value as a configuration holds it, or raise ConfigError.

    `where` says in messages where it was written, by default on the command line.
    """
    where = where or f'--set {override}'
    name, value = _parse_override(override, where)
    if name in SCHEMA and not (value is None and isinstance(SCHEMA[name].default, Derived)):
        value = _check_value(name, value, where)
    return name, value


def to_dict(config):
    """Return `config` as plain dicts, lists and scalars, as checkpoints and YAML hold it."""
    if isinstance(config, dict):
        return {key: to_dict(value) for key, value in config.items()}
    return [to_dict(item) for item in config] if isinstance(config, (list, tuple)) else config


def dump(config):
    """Return `config` as YAML text in the order of the schema; it loads again to the same configuration."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000)


def differences(before, now):
    """Return texts `section.key: before -> now`, as in the schema, for two dicts of `flatten` or `effective`."""
    def show(flat, name):
        return _show(flat[name]) if name in flat else 'without effect'

    return [f'{name}: {show(before, name)} -> {show(now, name)}' for name in SCHEMA
            if (name in before, before.get(name)) != (name in now, now.get(name))]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is an error instead of the last one winning."""

    def compose_mapping_node(self, anchor):
        # Checked here because merges (`<<`) legitimately repeat keys in the nodes later on.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.composer.ComposerError(None, None, f'key {key.value!r} is given twice', key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
        return node


class _NotAsItLooksError(yaml.constructor.ConstructorError):
    """A number to the base of 8 (010) or 60 (1:30) by YAML 1.1, which nobody means."""


def _plain_number(construct):
    def checked(loader, node):
        value = construct(loader, node)
        if ':' in node.value or (re.fullmatch(r'[-+]?0[0-7_]+', node.value) and value != int(node.value)):
            raise _NotAsItLooksError(None, None, f'{node.value} would be {value}; write a plain number, or a text in '
                                     'quotes', node.start_mark)
        return value

    return checked


_Loader.add_constructor('tag:yaml.org,2002:int', _plain_number(_Loader.construct_yaml_int))
_Loader.add_constructor('tag:yaml.org,2002:float', _plain_number(_Loader.construct_yaml_float))


def read_yaml(path, hint='give a YAML file such as those in configs/'):
    """Return what the YAML file `path` holds; `hint` completes the message where there is none."""
    try:
        return _parse_yaml(pathlib.Path(path).read_bytes().decode('utf-8-sig'))
    except OSError as error:
        raise ConfigError(f'{path}: {error.strerror or error}; {hint}') from None
    except UnicodeDecodeError as error:
        raise ConfigError(f'{path}: not a text file in UTF-8 (byte {error.start}); save it as one') from None
    except _YAML_ERRORS as error:
        raise ConfigError(f'{path}: {_yaml_problem(error)}') from None


def _parse_yaml(content):
    return yaml.load(content, _Loader)  # noqa: S506 (it derives from the safe one)


def _yaml_problem(error):
    """Return one line for an exception of the YAML parser, with the line number where it has one."""
    mark = getattr(error, 'problem_mark', None)
    problem = getattr(error, 'problem', None) or str(error)
    problem = 'nested too deeply' if isinstance(error, RecursionError) else ' '.join(problem.split())
    return f'line {mark.line + 1}: not valid YAML: {problem}' if mark else f'not valid YAML: {problem}'


def _flatten(mapping, source):
    """Return `mapping` as a dict from `section.key` to raw values, top-level keys as they are."""
    if not isinstance(mapping, dict):
        found = 'it is empty' if mapping is None else f'it holds {_show(mapping)}'
        raise ConfigError(f'{source}: expected a mapping with the sections {", ".join(_SECTIONS)}; {found}')
    values = {}
    for name, value in mapping.items():
        if name in _TOP_LEVEL:
            values[name] = value
        elif name not in _SECTIONS:
            raise _unknown(str(name), source)
        elif not isinstance(value, dict):
            raise ConfigError(f'{source}: {name} is {_show(value)}; expected `key: value` lines, or no such section')
        else:
            values |= {f'{name}.{key}': item for key, item in value.items()}
    for name in values:
        _require_known(name, source)
    return values


def _parse_override(override, where=None):
    """Split `section.key=value` and read the value as YAML: bare text for strings, brackets optional for lists."""
    name, equals, raw = str(override).partition('=')
    name, raw, where = name.strip(), raw.strip(), where or f'--set {override}'
    if not equals or not name:
        raise ConfigError(f'{where}: expected section.key=value, for example train.base_lr=0.01')
    _require_known(name, where)
    known = SCHEMA[name].type if name in SCHEMA else None
    try:
        value = _parse_yaml(raw)
        if known and known.is_list and not isinstance(value, list) and (value is not None or not raw):
            value = _parse_yaml(f'[{raw}]')
    except _NotAsItLooksError as error:
        if not (known and known.is_text):
            raise ConfigError(f'{where}: {error.problem}') from None
        value = raw
    except _YAML_ERRORS:
        value = raw
    # A path such as `123` or `a: b` is meant as it is written, whatever YAML makes of it.
    return name, raw if known and known.is_text and not isinstance(value, (str, list)) else value


def _drop_obsolete(values, origins):
    if found := [name for name in values if name in OBSOLETE]:
        _LOGGER.warning('%s: ignored, these keys no longer do anything: %s',
                        ' and '.join(dict.fromkeys(origins[name] for name in found)),
                        ', '.join(f'{name} (use {OBSOLETE[name]})' for name in found))
    for name in found:
        del values[name]


def _check_values(values, origins, source):
    """Return the complete flat configuration in the order of the schema."""
    missing = [name for name, key in SCHEMA.items() if key.default is REQUIRED and name not in values]
    if missing:
        raise ConfigError(f'{source}: missing {", ".join(missing)}; `python -m spml.config` explains the keys')
    flat = {}
    for name, key in SCHEMA.items():
        # null asks for a default that is worked out from other keys
        is_default = values.get(name) is None and (name not in values or isinstance(key.default, Derived))
        flat[name] = key.default if is_default else _check_value(name, values[name], origins[name])
    return {name: value.compute(flat) if isinstance(value, Derived) else value for name, value in flat.items()}


def _check_value(name, value, where):
    known = SCHEMA[name].type
    try:
        return known.parse(value)
    except (TypeError, ValueError):
        pass
    words = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    near = [match for word in words if word not in known.choices for match in _near(word, known.choices)]
    raise ConfigError(f'{where}: {name} is {_show(value)}; expected {known.expects}{_did_you_mean(near)}')


def _require_known(name, where):
    if name in _SECTIONS:
        raise ConfigError(f'{where}: {name} is a section; set its keys one by one, for example {_keys_of(name)[0]}=...')
    if name not in SCHEMA and name not in OBSOLETE:
        raise _unknown(name, where)


def _unknown(name, where):
    """Return the error for an unknown key: it proposes keys of this name elsewhere, then keys spelt like it."""
    section, _, leaf = name.rpartition('.')
    leaves = {known: known.rpartition('.')[2] for known in SCHEMA}
    similar = _near(leaf, leaves.values())
    near = [known for known in SCHEMA if leaves[known] == leaf]
    near += _near(name, SCHEMA if section else [*SCHEMA, *_SECTIONS])
    near += [known for known in SCHEMA if leaves[known] in similar]
    known = _keys_of(section) if section in _SECTIONS else (*_SECTIONS, *_TOP_LEVEL)
    return ConfigError(f'{where}: unknown key {name}{_did_you_mean(near) or "; known are " + ", ".join(known)}')


def _keys_of(section):
    return [name for name in SCHEMA if name.startswith(f'{section}.')]


def _near(word, words):
    return difflib.get_close_matches(word, list(dict.fromkeys(words)), n=3, cutoff=0.7)


def _did_you_mean(near):
    return f'; did you mean {" or ".join(list(dict.fromkeys(near))[:3])}?' if near else ''


def _show(value):
    """Return a short one-line form of a raw value."""
    try:
        return 'null' if value is None else _REPR.repr(value)
    except ValueError:  # Python refuses to write thousands of digits
        return 'a number of thousands of digits'
