"""Run named runs or a grid of settings with several seeds, and put their scores into one table with mean and spread.

python pyscripts/train/sweep.py configs/sweeps/demo_co_occurrence.yaml

The YAML file names a pipeline's script or a training's command line, what to try, and the seeds: the one above is a
grid, demo_quality.yaml next to it has named runs. Run again, it continues where it stopped: what is done is not
made again. The table is in table.csv (numbers) and table.md (mean ± standard deviation), every
single run in runs.csv.
"""
import pathlib

from spml.cli import arguments
from spml.program import execute
from spml.sweep.grid import read_sweep
from spml.sweep.runner import SweepFailedError, describe, is_done, log_path, read_results, run_sweep, write_tables


def main():
    """Parse the options, run what is not done, print the table of what is."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('sweep', type=pathlib.Path, metavar='SWEEP.yaml', help='what to run')
    parser.add_argument('--gpus', type=lambda text: tuple(text.split(',')), default=(None,), metavar='N,N,...',
                        help='GPUs, each of which works at one run at a time (default: one run after the other, on '
                             'what its command chooses)')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='SEED', help="in place of the file's (default: those)")
    parser.add_argument('--overwrite', action='store_true',
                        help='have pipelines make again what was made with other settings, instead of refusing')
    parser.add_argument('--dry_run', action='store_true', help='only print the commands')
    args = parser.parse_args()
    sweep = read_sweep(args.sweep, args.seeds)
    if args.dry_run:
        for run in sweep.runs:
            print(f'{run.name}: {describe(sweep, run)}')
        return
    try:
        failed = run_sweep(sweep, args.gpus, args.overwrite)
    except KeyboardInterrupt:
        show(sweep)
        raise
    show(sweep)
    if failed:
        name, status = next(iter(failed.items()))
        raise SweepFailedError(f'{len(failed)} of {len(sweep.runs)} runs failed, {name} with status {status} (log: '
                               f'{log_path(sweep, name)}); remove the cause and run the same command again')


def show(sweep):
    """Write and print the tables of the runs that are done."""
    done = [run for run in sweep.runs if is_done(sweep, run)]
    print(f'\n{write_tables(sweep, {run.name: read_results(sweep, run) for run in done})}')
    print(f'{len(done)} of {len(sweep.runs)} runs; tables: {sweep.out}/{{table.md,table.csv,runs.csv}}')


if __name__ == '__main__':
    execute(main)
