"""Run the stages that a pipeline's script lists on standard input: `python -m spml.pipeline RUN_DIR --script FILE`.

Called by bashscripts/lib/pipeline.sh; `plan` says what the list looks like.
"""
import argparse
import pathlib
import sys

from spml.evaluation.scores import format_summary
from spml.pipeline.chain import Chain, StageFailedError
from spml.pipeline.plan import read_plan
from spml.pipeline.record import NO_TRUTH, lacks_truth
from spml.program import execute


def main(words=None, stream=None):
    """Read the list from a binary stream (default: standard input), run it, print the scores; return the status."""
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


def closing(run_dir, plan):
    """Return what is printed at the end of a run: its scores, and where results and pictures are.

    DataError: a score is missing or damaged.
    """
    scores = [(stage.title, stage.output) for stage in plan.stages if stage.title]
    pictures = [stage.output for stage in plan.stages if stage.output.suffix == '.png']
    lines = ['', format_summary(scores), ''] if scores else ['']
    if not scores and lacks_truth(plan.settings):
        lines.append(f'scores:   none; {NO_TRUTH}')
    lines.append(f'results:  {run_dir}')
    lines += [f'pictures: {path} (overview)' for path in pictures]
    lines.append(f'          {run_dir}/*/semantic_color (each prediction, in colour)')
    return '\n'.join(lines)


if __name__ == '__main__':
    execute(main)
