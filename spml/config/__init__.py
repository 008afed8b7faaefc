"""The checked configuration: `schema` says which keys there are, `kinds` what their values may be, `load` reads files.

`python -m spml.config` prints the table of keys.
"""
from spml.config.load import check_override, dump, load_config, resolve, to_dict
from spml.config.schema import describe

__all__ = ['check_override', 'describe', 'dump', 'load_config', 'resolve', 'to_dict']
