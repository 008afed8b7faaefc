"""Ctrl-C, which a script answers in one line from its first import of `spml` on: importing torch takes seconds.

`spml.program.execute` turns it into an exception, so that what has been begun is put away. Until then nothing has.
"""
import contextlib
import os
import pathlib
import signal
import sys
import threading

STATUS = 130
_SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / 'pyscripts'


def report():
    """Say on standard error that this command was interrupted, unless another process does so."""
    # A pipeline that runs this as a stage says how to continue; of several processes one reports for all.
    if 'SPML_STAGE' not in os.environ and os.environ.get('RANK', '0') == '0':
        print('\ninterrupted; what was complete is kept, run the same command again to continue', file=sys.stderr)


def leave(number, frame):
    """Handle a signal: end this process at once. An exception could be caught by whatever is being imported."""
    try:
        report()
    finally:  # nobody may read what it says any more
        os._exit(STATUS)


@contextlib.contextmanager
def handled(numbers, handler):
    """Have signals of these numbers go to a handler, as `signal.signal` takes it, inside the `with` block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def leave_while_importing():
    """Have SIGINT end this process, if it runs a script of this project and not a program that imports `spml`."""
    if (_runs_script() and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        signal.signal(signal.SIGINT, leave)


def _runs_script():
    module = sys.orig_argv[1:3]  # `python -m spml.pipeline`, whose file is not known yet
    if module[:1] == ['-m']:
        return module[1].startswith('spml.')
    # Worker processes import the script, too, but are not begun with it.
    script = getattr(sys.modules['__main__'], '__file__', None)
    return script is not None and _SCRIPTS in pathlib.Path(script).resolve().parents
