"""Running a sweep, one run after the other or one on each GPU, and the tables of its results.

Every run is started: a pipeline, or a training with --resume, knows itself what is done already and whether that may
stay. Each is a process in its own session, so that Ctrl-C reaches it once, through the sweep, and lets it save. Its
output goes to `logs/<run>.log`; one that ended well leaves `sweep.json` in its folder. Tables show mean and spread over
the seeds, and every single run.
"""
import collections
import contextlib
import csv
import io
import itertools
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from tqdm import tqdm

from spml.errors import DataError, SpmlError
from spml.evaluation.scores import read_score
from spml.pipeline.record import read_record
from spml.sweep.grid import SweepRun
from spml.utils.formats import read_json, read_json_lines, write_json, write_text

_POLL_SECONDS = 0.2


class SweepFailedError(SpmlError):
    """Some runs of a sweep failed; the others are done."""

    exit_status = 1


class _Job(NamedTuple):
    run: SweepRun
    process: subprocess.Popen
    started: float


def command_of(sweep, run, gpu=None, overwrite=False):
    """Return the words of a run's command and what it adds to the environment.

    `gpu` is the number, as text, of the GPU it gets to itself; None leaves the choice to the command. `overwrite` has a
    pipeline make again what it finds made with other settings.
    """
    if sweep.train:
        words = [sys.executable, *sweep.train, '--snapshot_dir', str(sweep.out / run.name), '--resume',
                 '--set', *run.words('set')]
        # The one GPU that it sees is number 0, whatever the YAML names.
        return (words, {}) if gpu is None else ([*words, 'gpus=0'], {'CUDA_VISIBLE_DEVICES': gpu})
    environment = {**run.settings, 'RUN_NAME': run.name, 'SNAPSHOT_ROOT': str(sweep.out.absolute())}
    # Where a pipeline trains a classifier of tags, that has the run's seed, too.
    for name, words in (('SET_EMBEDDING', run.words('set')), ('SET_CLASSIFIER', run.words('set_classifier')),
                        ('SET_CAM', [f'seed={run.seed}'])):
        given = run.settings.get(name, os.environ.get(name, ''))
        environment[name] = ' '.join([given, *words]).strip()
    environment.setdefault('SPML_PYTHON', os.environ.get('SPML_PYTHON') or sys.executable)
    added = {'GPUS': gpu, 'OVERWRITE': '1' if overwrite else None}
    return ['bash', str(run.pipeline)], environment | {name: value for name, value in added.items() if value}


def describe(sweep, run):
    """Return a run's command as one line for a shell, wherever it runs: without the Python and the GPU."""
    words, environment = command_of(sweep, run)
    words = ['python' if word == sys.executable else word for word in words]
    return ' '.join([*(f'{name}={shlex.quote(value)}' for name, value in environment.items() if name != 'SPML_PYTHON'),
                     shlex.join(words)])


def run_sweep(sweep, gpus=(None,), overwrite=False):
    """Start every run, as many at a time as there are GPUs; return a dict from a failed run's name to its exit status.

    `gpus` are their numbers, as text; (None,) runs one at a time and leaves the choice to the command. `overwrite` is
    as above. A KeyboardInterrupt is raised again once the current runs have saved and ended.
    """
    waiting = collections.deque(sweep.runs)
    jobs, failed = {}, {}
    with tqdm(total=len(sweep.runs), desc='sweep', unit='run', dynamic_ncols=True) as bar:
        try:
            while waiting or jobs:
                for gpu in [gpu for gpu in gpus if gpu not in jobs][:len(waiting)]:
                    jobs[gpu] = _start(sweep, waiting.popleft(), gpu, overwrite)
                time.sleep(_POLL_SECONDS)
                for gpu in [gpu for gpu, job in jobs.items() if job.process.poll() is not None]:
                    status = _finish(sweep, jobs.pop(gpu), failed)
                    bar.update(status == 0)
        except KeyboardInterrupt:
            for job in jobs.values():
                with contextlib.suppress(ProcessLookupError):
                    # Its whole session: a pipeline and the stage that it runs.
                    os.killpg(job.process.pid, signal.SIGINT)
            for job in jobs.values():
                job.process.wait()
            raise
    return failed


def is_done(sweep, run):
    """Whether a run ended well when it was last started."""
    path = _mark(sweep, run)
    return path.is_file() and 'seconds' in read_json(path, 'remove it')


def _mark(sweep, run):
    return sweep.out / run.name / 'sweep.json'


def log_path(sweep, run_name):
    """Return where a run's output goes."""
    return sweep.out / 'logs' / f'{run_name}.log'


def _start(sweep, run, gpu, overwrite):
    path = log_path(sweep, run.name)
    words, environment = command_of(sweep, run, gpu, overwrite)
    _mark(sweep, run).unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    tqdm.write(f'{run.name}{"" if gpu is None else f" on GPU {gpu}"} ... (log: {path})')
    with open(path, 'a', encoding='utf-8') as log:
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,  # noqa: S603
                                   stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    return _Job(run, process, time.monotonic())


def _finish(sweep, job, failed):
    """Note how a run ended and return its exit status."""
    status, name, seconds = job.process.returncode, job.run.name, time.monotonic() - job.started
    if status == 0:
        write_json(_mark(sweep, job.run), {'command': describe(sweep, job.run), 'seconds': seconds})
        tqdm.write(f'{name} done in {seconds:.0f} s')
    else:
        failed[name] = status
        log = log_path(sweep, name).read_text(encoding='utf-8', errors='replace')
        lines = [line for line in log.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith('error: ')]
        tqdm.write(f'{name} FAILED with status {status}: {(errors or lines or ["its log is empty"])[-1]}')
    return status


def mean_and_spread(values):
    """Return the mean of some numbers and their sample standard deviation (n - 1); None where there is none."""
    return statistics.fmean(values) if values else None, statistics.stdev(values) if len(values) > 1 else None


def plus_minus(mean, spread, digits=2):
    """Return `46.50 ± 1.20`; without the spread if it is None, `-` without a mean."""
    return ' ± '.join(f'{value:.{digits}f}' for value in (mean, spread) if value is not None) or '-'


def to_csv(header, rows):
    """Return a table as CSV text; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator='\n').writerows([header, *rows])
    return out.getvalue()


def to_markdown(header, rows):
    """Return a table as Markdown text, its columns padded so that it reads as plain text too."""
    cells = [[str(cell).replace('|', '\\|') for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + ' |'
             for row in cells]
    return '\n'.join([lines[0], '|' + '|'.join('-' * (width + 2) for width in widths) + '|', *lines[1:]]) + '\n'


def read_results(sweep, run):
    """Return a dict from a score's name to its value: mean IoU in % of a pipeline, the last metrics of a training.

    DataError: a file of the run is damaged, or the run does not have the scores that the sweep is to show.
    """
    folder = sweep.out / run.name
    if sweep.train:
        rows = read_json_lines(folder / 'metrics.jsonl')
        results = {key: value for key, value in (rows[-1] if rows else {}).items() if key not in ('iteration', 'lr')}
    else:
        stages = []
        with contextlib.suppress(DataError):  # without a record, the order of the pipeline is not known
            stages = [stage.name for stage in read_record(folder).stages]
        files = sorted(sorted((folder / 'scores').glob('*.json')),
                       key=lambda file: stages.index(file.stem) if file.stem in stages else -1)
        results = {file.stem: 100 * read_score(file)['mean_iou'] for file in files}
    missing = [name for name in sweep.scores or [] if name not in results]
    if missing or not results:
        raise DataError(f'{folder}: has no score {missing[0] if missing else "at all"}; it has '
                        f'{", ".join(results) or "none"}')
    return {name: results[name] for name in sweep.scores or results}


def write_tables(sweep, results):
    """Write `table.csv`, `table.md` and `runs.csv`, and return the Markdown; `results`: of the finished runs, by name.

    It has a row for the runs that differ in the seed alone: what they are, how many seeds are done, unless all are, and
    each score's mean ± spread over them.
    """
    columns = list(sweep.runs[0].values)
    names = list(dict.fromkeys(name for values in results.values() for name in values))
    titles = [(sweep.scores or {}).get(name, name.removeprefix('score_')) for name in names]
    digits = 2 if sweep.train else 1
    exact, shown, complete = [], [], True
    for values, group in itertools.groupby(sweep.runs, key=lambda run: run.values):
        group = list(group)
        done = [results[run.name] for run in group if run.name in results]
        figures = [mean_and_spread([result[name] for result in done if name in result]) for name in names]
        exact.append([*values.values(), len(done), *(number for pair in figures for number in pair)])
        shown.append([*values.values(), len(done), *(plus_minus(*pair, digits) for pair in figures)])
        complete = complete and len(done) == len(group)
    write_text(sweep.out / 'table.csv', to_csv(
        [*columns, 'seeds', *(f'{name}_{figure}' for name in names for figure in ('mean', 'std'))], exact))
    header = [*columns, 'seeds', *titles]
    if header[0] == 'title':
        header[0] = 'run' if sweep.train else 'mean IoU in %'
    if complete:
        header, *shown = ([*row[:len(columns)], *row[len(columns) + 1:]] for row in (header, *shown))
    text = to_markdown(header, shown)
    write_text(sweep.out / 'table.md', text)
    write_text(sweep.out / 'runs.csv', to_csv(['run', *columns, 'seed', *names], [
        [run.name, *run.values.values(), run.seed, *(results.get(run.name, {}).get(name) for name in names)]
        for run in sweep.runs]))
    return text
