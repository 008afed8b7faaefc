"""The checked configuration: which keys there are, what their values may be, and what they matter to.

`schema` is the table of keys, `types` what their values may be, `load` reads files, `effects` says which keys a result
depends on. `python -m spml.config` prints the table of keys, a file as resolved, or what two files differ in.
"""
from spml.config.effects import effective, flatten, images_per_process
from spml.config.load import check_override, differences, dump, load_config, read_yaml, resolve, to_dict
from spml.config.schema import describe

__all__ = ['check_override', 'describe', 'differences', 'dump', 'effective', 'flatten', 'images_per_process',
           'load_config', 'read_yaml', 'resolve', 'to_dict']
