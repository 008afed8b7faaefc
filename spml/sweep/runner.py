"""Running a sweep: one run after the other, or one on each GPU.

Every run is started: a pipeline, or a training with --resume, knows itself what is done already and whether that may
stay. Each is a process in its own session, so that Ctrl-C reaches it once, through the sweep, and lets it save. Its
output goes to `logs/<run>.log`; one that ended well leaves `sweep.json` in its folder.
"""
import collections
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from tqdm import tqdm

from spml.errors import SpmlError
from spml.sweep.grid import SweepRun
from spml.utils.formats import read_json, write_json

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
