"""Ending a training in good order: requests to stop, and what several processes agree on before each step.

A signal or a bad file may reach one process alone, and the others would wait for it in the next step. So all processes
tell each other what they want, do the most urgent of it together, and exit together.
"""
import contextlib
import enum
import os
import select
import signal
import stat
import sys
import time

from spml.errors import SpmlError
from spml.utils import distributed, interrupt

# Launchers pass on a signal that the terminal or the cluster has already sent to every process.
ECHO_SECONDS = 2.0


class InterruptedTrainingError(SpmlError):
    """The training was asked to stop; its state is saved."""

    exit_status = interrupt.STATUS


class Wish(enum.IntEnum):
    """What a process wants before the next step; the larger is the more urgent."""

    GO_ON = 0
    SAVE = 1
    UNREAD = 2
    STOP = 3
    GIVE_UP = 4


class StopRequests:
    """Whether, and since when, the training is asked to stop."""

    requested = False

    def __call__(self, number, frame):
        """Note a signal; a second Ctrl-C acts at once."""
        if not self.requested:
            self.requested, self.since = True, time.monotonic()
            return
        alone = number == signal.SIGINT and distributed.world_size() == 1
        if alone or time.monotonic() - self.since > ECHO_SECONDS:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_requests():
    """Turn SIGTERM and Ctrl-C inside the `with` block into a request that the loop honours between two steps."""
    requests = StopRequests()
    with interrupt.handled((signal.SIGINT, signal.SIGTERM), requests):
        yield requests


def output_closed():
    """Whether nobody reads the output of this process any more, as after `| head`: a pipe without a reader."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream that is not a file
            if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def exit_together(error, report):
    """Raise `error` in the process that is to report it; exit silently with its status in the others."""
    if report:
        raise error
    raise SystemExit(error.exit_status)
