"""Print the keys of configurations, a configuration as resolved, or how two of them differ."""
import argparse

from spml.config import describe, differences, dump, flatten, load_config
from spml.program import execute


def main(argv=None):
    """Print what the command line asks for: by default the table of keys with their values, defaults and meaning."""
    parser = argparse.ArgumentParser(prog='python -m spml.config', description=main.__doc__)
    parser.add_argument('file', nargs='?', metavar='FILE', help='print this YAML file as resolved: bases and defaults '
                                                                'filled in, every value in one form')
    parser.add_argument('--diff', nargs=2, metavar=('A', 'B'), help='print how these two differ once resolved')
    parser.add_argument('--set', action='extend', nargs='+', default=[], metavar='SECTION.KEY=VALUE', dest='overrides',
                        help='override a key')
    args = parser.parse_args(argv)
    if args.overrides and not (args.file or args.diff):
        parser.error('--set needs FILE')
    if args.file and args.diff:
        parser.error('--diff takes both files itself')
    if args.diff:
        found = differences(*(flatten(load_config(path, args.overrides)) for path in args.diff))
        print('\n'.join(found) or 'no difference')
    elif args.file:
        print(dump(load_config(args.file, args.overrides)), end='')
    else:
        print(describe())


if __name__ == '__main__':
    execute(main)
