"""Run the stages that a pipeline's script lists on standard input: `python -m spml.pipeline RUN_DIR --script FILE`.

Called by bashscripts/lib/pipeline.sh; `plan` says what the list looks like.
"""
import argparse
import pathlib
import sys

from spml.pipeline.chain import Chain, StageFailedError
from spml.pipeline.plan import read_plan
from spml.pipeline.summary import closing
from spml.program import execute


def main(words=None, stream=None):
    """Read the list, run it, print the scores.

    Args:
        words: of the command line (default: this process's).
        stream: the list, bytes (default: standard input).
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('run_dir', type=pathlib.Path)
    parser.add_argument('--script', default='')
    args = parser.parse_args(words)
    plan = read_plan(stream or sys.stdin.buffer)
    try:
        Chain(args.run_dir, args.script, plan).run()
    except StageFailedError as error:
        print(f'\n{error}', file=sys.stderr)
        return error.exit_status
    print(closing(args.run_dir, plan))
    return 0


if __name__ == '__main__':
    execute(main)
