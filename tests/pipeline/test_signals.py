"""Signals: whoever is told to stop, the stage saves once, nothing is left running, and the status is not 0."""
import contextlib
import fcntl
import os
import signal
import subprocess
import time

import pytest

from spml.pipeline.record import read_record


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.02)


def start_waiting(place, seconds=60):
    place.behave(inference={'wait': seconds})
    process = place.start()
    until((place.folder / 'waiting').exists)
    return process


def is_free(place):
    with open(place.run_dir / '.lock') as handle, contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.mark.parametrize(('send', 'saved'), [
    (lambda process: os.killpg(process.pid, signal.SIGINT), 'SIGINT'),  # Ctrl-C
    (lambda process: os.killpg(process.pid, signal.SIGTERM), 'SIGTERM'),  # timeout, a cluster
    (lambda process: process.send_signal(signal.SIGTERM), 'SIGTERM'),  # kill
    (lambda process: process.send_signal(signal.SIGHUP), 'SIGTERM')])  # a terminal that closes
def test_a_stage_saves_and_the_chain_ends(place, send, saved):
    process = start_waiting(place)
    send(process)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.decode().strip() == ('[2/6] inference interrupted; run the same script again to continue, finished '
                                      'stages are skipped')
    assert b'score ...' not in out
    assert (place.folder / 'saved').read_text() == saved
    assert is_free(place)
    assert read_record(place.run_dir).stages[-1].status == 'interrupted'
    place.behave()
    assert place.run()[0] == 0
    assert place.calls[0] == 'inference'


def test_a_reader_that_went_away_is_no_success(place):
    process = start_waiting(place)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert (place.folder / 'saved').read_text() == 'SIGTERM'
    assert read_record(place.run_dir).stages[-1].status == 'interrupted'


def test_a_killed_chain_takes_its_stage_along(place):
    process = start_waiting(place)
    process.kill()
    process.communicate(timeout=60)
    saved = place.folder / 'saved'
    until(lambda: saved.exists() and saved.read_text() == 'SIGTERM')  # no longer waited for: perhaps half written
    until(lambda: is_free(place))


def test_two_runs_in_one_folder_do_not_mix(place):
    process = start_waiting(place)
    assert 'another pipeline runs there' in place.refused()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_a_stage_that_was_killed_says_so(place):
    place.behave(inference={'wait': 60})
    process = place.start()
    until((place.folder / 'waiting').exists)
    stage = subprocess.run(['pgrep', '-P', str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(stage[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 137
    assert 'FAILED with status 137 (killed, perhaps out of memory)' in error.decode()


def test_a_stage_that_does_not_react_is_killed_by_the_third_signal(place):
    process = start_waiting(place)
    stage = subprocess.run(['pgrep', '-P', str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(stage[0]), signal.SIGSTOP)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (place.folder / 'saved').exists()
    assert is_free(place)
