"""Print the scores of a pipeline's run: the mean IoU of each, in the order of its stages, and the last one by class.

python pyscripts/results/summary.py --run_dir snapshots/demo/spml_scribble
"""
import pathlib

from spml.cli import arguments
from spml.errors import DataError
from spml.evaluation.scores import format_summary
from spml.pipeline.record import NO_TRUTH, lacks_truth, read_record
from spml.program import execute


def main():
    """Read the scores that the run's record names, and print them."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--run_dir', type=pathlib.Path, required=True, help='folder of a run')
    run_dir = parser.parse_args().run_dir
    record = read_record(run_dir)
    scores = [(stage.title, stage.output) for stage in record.stages if stage.title and stage.is_done]
    if not scores and lacks_truth(record.settings):
        raise DataError(f'{run_dir}: has no scores, for {NO_TRUTH}; look at its pictures')
    if not scores:
        raise DataError(f'{run_dir}: has no scores yet; run its script to the end')
    print(format_summary(scores))


if __name__ == '__main__':
    execute(main)
