"""Leaving a training in good order: requests to stop, and what several processes agree on before each step.

One process alone may be signalled, or meet a bad file, but the others wait for it in the next step: so all tell each
other what they want, do the most urgent of it together, and leave together.
"""
import contextlib
import enum
import signal
import time

from spml.errors import SpmlError
from spml.utils import distributed

# Launchers pass a signal on that the terminal or the cluster has sent to every process already.
ECHO_SECONDS = 2.0


class InterruptedRunError(SpmlError):
    """The run was asked to stop; its state is saved."""

    exit_status = 130


class Wish(enum.IntEnum):
    """What a process wants before the next step; the larger is the more urgent."""

    GO_ON = 0
    SAVE = 1
    STOP = 2
    GIVE_UP = 3

    def agreed(self, device):
        """Return the most urgent wish of all processes."""
        return Wish(distributed.largest(self, device))


class StopRequests:
    """Whether, and since when, the run is asked to stop."""

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
    before = {number: signal.signal(number, requests) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(error, speaks):
    """Raise `error` in a process that speaks; end the others without a word and with its exit status."""
    if speaks:
        raise error
    raise SystemExit(error.exit_status)
