"""The checked configuration: `schema` says which keys there are, `kinds` what their values may be, `load` reads files.

`python -m spml.config` prints the table of keys.
"""
from spml.config.load import check_override, differences, dump, load_config, resolve, to_dict
from spml.config.schema import WITHOUT_EFFECT_ON_TRAINING, describe

__all__ = ['WITHOUT_EFFECT_ON_TRAINING', 'check_override', 'describe', 'differences', 'dump', 'load_config', 'resolve',
           'to_dict']
