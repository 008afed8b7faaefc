"""Running a sweep: one run after the other, or one on each GPU; what is done is not run again.

Each run is a process of its own in a session of its own, so that Ctrl-C reaches it once, through the sweep, and lets it
save. A run that ends well leaves `sweep.json` in its folder; its output goes to `logs/<run>.log`.
"""
import collections
import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time

from tqdm import tqdm

from spml.errors import SpmlError
from spml.utils.formats import read_json, write_json

_POLL_SECONDS = 0.2


class SweepFailedError(SpmlError):
    """Some runs of a sweep failed; the others are done."""

    exit_status = 1


@dataclasses.dataclass
class _Job:
    """A run at work."""

    run: object
    process: subprocess.Popen
    started: float


def command_of(sweep, run, gpu=None):
    """Return the words of a run's command and what it adds to the environment.

    Args:
        sweep: `sweep.Sweep`.
        run: one of its SweepRun.
        gpu: number of the GPU it gets to itself, as text; None leaves the choice to the command.
    """
    if sweep.train:
        words = [sys.executable, *sweep.train, '--snapshot_dir', str(sweep.out / run.name), '--resume',
                 '--set', *run.overrides['set']]
        # The one GPU that it sees is number 0, whatever the YAML names.
        return (words, {}) if gpu is None else ([*words, 'gpus=0'], {'CUDA_VISIBLE_DEVICES': gpu})
    environment = {**sweep.settings, 'RUN_NAME': run.name, 'SNAPSHOT_ROOT': str(sweep.out.absolute())}
    for name, grid in (('SET_EMBEDDING', 'set'), ('SET_CLASSIFIER', 'set_classifier')):
        given = sweep.settings.get(name, os.environ.get(name, ''))
        environment[name] = ' '.join([given, *run.overrides[grid]]).strip()
    environment.setdefault('SPML_PYTHON', os.environ.get('SPML_PYTHON') or sys.executable)
    return ['bash', str(sweep.pipeline)], environment if gpu is None else {**environment, 'GPUS': gpu}


def describe(sweep, run):
    """Return a run's command as one line for a shell, wherever it runs: without the Python and the GPU."""
    words, environment = command_of(sweep, run)
    words = ['python' if word == sys.executable else word for word in words]
    return ' '.join([*(f'{name}={shlex.quote(value)}' for name, value in environment.items() if name != 'SPML_PYTHON'),
                     shlex.join(words)])


def run_sweep(sweep, gpus=(None,)):
    """Run what is not done yet, as many at a time as there are GPUs.

    Args:
        sweep: `sweep.Sweep`.
        gpus: their numbers, as text; (None,) runs one at a time and leaves the choice to the command.

    Returns:
        dict from a failed run's name to its exit status; the others are done.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, once the runs at work have saved and ended.
    """
    waiting = collections.deque(run for run in sweep.runs if not is_done(sweep, run))
    jobs, failed = {}, {}
    with tqdm(total=len(sweep.runs), initial=len(sweep.runs) - len(waiting), desc='sweep', unit='run',
              dynamic_ncols=True) as bar, _terminate_as_interrupt():
        try:
            while waiting or jobs:
                for gpu in [gpu for gpu in gpus if gpu not in jobs][:len(waiting)]:
                    jobs[gpu] = _start(sweep, waiting.popleft(), gpu)
                time.sleep(_POLL_SECONDS)
                for gpu in [gpu for gpu, job in jobs.items() if job.process.poll() is not None]:
                    status = _finish(sweep, jobs.pop(gpu), failed)
                    bar.update(status == 0)
        except KeyboardInterrupt:
            for job in jobs.values():
                _interrupt(job.process)
            for job in jobs.values():
                job.process.wait()
            raise
    return failed


def is_done(sweep, run):
    """Whether a run ended well with the command that it has now."""
    path = sweep.out / run.name / 'sweep.json'
    return path.is_file() and read_json(path, 'remove it').get('command') == describe(sweep, run)


def log_path(sweep, run_name):
    """Return where a run's output goes."""
    return sweep.out / 'logs' / f'{run_name}.log'


def _start(sweep, run, gpu):
    words, environment = command_of(sweep, run, gpu)
    path = log_path(sweep, run.name)
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
        write_json(sweep.out / name / 'sweep.json', {'command': describe(sweep, job.run), 'seconds': seconds})
        tqdm.write(f'{name} done in {seconds:.0f} s')
    else:
        failed[name] = status
        tqdm.write(f'{name} FAILED with status {status}: {_last_error(log_path(sweep, name))}')
    return status


def _last_error(path):
    """Return the last line of a log that says what is wrong, or its last line."""
    lines = [line for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith('error: ')]
    return (errors or lines or ['its log is empty'])[-1]


def _interrupt(process):
    # Its whole session: a pipeline's script and the stage that it runs.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


@contextlib.contextmanager
def _terminate_as_interrupt():
    """Take SIGTERM for Ctrl-C: the runs at work shall not be left alone."""
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
