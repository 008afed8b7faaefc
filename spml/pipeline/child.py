"""One stage as a child process: its output, the signals that it gets, what it costs, how it ends.

The stage runs in a separate session, so that Ctrl-C and signals to the process group reach it once, through this
process, and let it save. What it prints goes to the terminal and to its log. Should this process be killed outright,
the stage is told to stop (Linux).
"""
import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

from spml.utils import interrupt

_POLL_SECONDS = 0.2
_BLOCK = 1 << 16
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_PATIENCE = 3  # signals, the last of which kills
# Linux counts in KiB, macOS in bytes.
_RSS_UNIT = 1 if sys.platform == 'darwin' else 1024


class StopRequests:
    """Signals that ask this process to stop, passed on to the running stage.

    `requested` counts them; the stage ends by itself and reports how far it got. The third kills it.
    """

    def __init__(self):
        self.requested = 0
        self.child = None

    def __call__(self, number, frame=None):
        """Note the signal and pass it on; a closed terminal counts as SIGTERM."""
        self.requested += 1
        if self.child is None or self.child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self.requested >= _PATIENCE:
                os.killpg(self.child.pid, signal.SIGKILL)
            else:
                os.kill(self.child.pid, signal.SIGTERM if number == signal.SIGHUP else number)


@contextlib.contextmanager
def stop_requests():
    """Turn SIGINT, SIGTERM and SIGHUP inside the `with` block into StopRequests, which is yielded."""
    requests = StopRequests()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)
    with interrupt.handled(numbers, requests):
        yield requests


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a stage ended."""

    status: int  # exit status, 128 + N for one that signal N killed
    seconds: float
    memory: int  # bytes of the largest process
    gpu_memory: int  # bytes of tensors on its GPU
    reader_gone: bool  # whether nobody reads what this process prints any more


def run_process(command, log, environment, stop, keep_open=(), resumed=False):
    """Run a stage, `command` as a list of words, to its end; return how it Ended.

    Args:
        log: path of its log, which is overwritten, or added to if `resumed`.
        environment: dict of what to add to the environment.
        stop: StopRequests of the block that this runs in.
        keep_open: file descriptors that the stage holds too, such as the lock on the run's folder.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='spml-') as folder, open(log, 'ab' if resumed else 'wb') as log_file:
        note = pathlib.Path(folder) / 'usage.json'
        child = subprocess.Popen(  # noqa: S603 (a script of this project; no threads here)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **environment, 'PYTHONUNBUFFERED': '1', 'SPML_USAGE': str(note)}, pass_fds=keep_open,
            preexec_fn=_end_with_parent())  # noqa: PLW1509 (no threads here)
        stop.child = child
        if stop.requested:  # while it was started
            stop(signal.SIGTERM)
        memory, reader_gone = _follow(child, log_file, stop)
        stop.child = None
        status = child.returncode if child.returncode >= 0 else 128 - child.returncode
        return Ended(status, time.monotonic() - started, memory, _gpu_memory(note), reader_gone)


def _follow(child, log_file, stop):
    """Copy the output until the child has ended; return its largest resident set and whether the reader went away."""
    stream, usage, reader_gone = child.stdout.fileno(), None, False
    while True:
        # What outlives the stage may hold its end of the pipe: the process decides, not the end of the stream.
        ready = select.select([stream], [], [], 0 if usage else _POLL_SECONDS)[0]
        block = os.read(stream, _BLOCK) if ready else b''
        if block:
            log_file.write(block)
            log_file.flush()
            if not reader_gone and not _print(block):
                reader_gone = True
                stop(signal.SIGTERM)
        elif usage:
            child.stdout.close()
            return usage.ru_maxrss * _RSS_UNIT, reader_gone
        if not usage:
            # After the end of the stream, wait.
            ended, status, found = os.wait4(child.pid, 0 if ready and not block else os.WNOHANG)
            if ended:
                child.returncode, usage = os.waitstatus_to_exitcode(status), found


def _print(block):
    """Print some bytes; return whether there still is a reader."""
    try:
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Keep the interpreter from flushing into the closed pipe when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _gpu_memory(note):
    try:
        return int(json.loads(note.read_text())['gpu_memory'])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _end_with_parent():
    """Return what a new process calls to be signalled when this one is gone; None where that is impossible."""
    if not sys.platform.startswith('linux'):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_DEATH_SIGNAL, signal.SIGTERM)
