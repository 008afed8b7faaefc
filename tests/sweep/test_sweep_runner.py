"""Running sweeps: bash scripts take the place of pipelines."""
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml

from spml.sweep.grid import read_sweep
from spml.sweep.runner import describe, is_done, log_path, run_sweep

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / 'pyscripts' / 'train' / 'sweep.py'

# Records its settings, fails while $FAIL names its run, and writes a score that depends on the learning rate.
PIPELINE = """
echo "$RUN_NAME|$SET_EMBEDDING|$SET_CLASSIFIER|$GPUS|$DATASET|$SET_CAM" >> "$SNAPSHOT_ROOT/calls"
trap 'echo saved > "$SNAPSHOT_ROOT/$RUN_NAME/saved"; exit 130' INT
mkdir -p "$SNAPSHOT_ROOT/$RUN_NAME/scores"
[ -z "$OVERWRITE" ] || echo "$OVERWRITE" >> "$SNAPSHOT_ROOT/overwrites"
if [ "$(cat "$SNAPSHOT_ROOT/fail" 2>/dev/null)" = "$RUN_NAME" ]; then
    echo 'error: no luck'
    exit 3
fi
if [ -e "$SNAPSHOT_ROOT/wait" ]; then
    touch "$SNAPSHOT_ROOT/$RUN_NAME/waiting"
    sleep 60 & wait
fi
lr=${SET_EMBEDDING#*base_lr=}
echo "{\\"mean_iou\\": ${lr%% *}}" > "$SNAPSHOT_ROOT/$RUN_NAME/scores/score_final.json"
"""

# Records its words, and writes metrics.
TRAINING = """
import pathlib, sys, os
folder = pathlib.Path(sys.argv[sys.argv.index('--snapshot_dir') + 1])
folder.mkdir(parents=True, exist_ok=True)
(folder / 'words').write_text('|'.join([os.environ.get('CUDA_VISIBLE_DEVICES', ''), *sys.argv[1:]]))
(folder / 'metrics.jsonl').write_text('{"iteration": 0, "loss": 1.5}')
"""


class Place:
    """A sweep of two learning rates and two seeds over the script above."""

    def __init__(self, folder):
        self.out, self.yaml = folder / 'out', folder / 'sweep.yaml'
        self.out.mkdir()
        (folder / 'pipeline.sh').write_text(PIPELINE)
        self.write(seeds=[0, 1])

    def write(self, **keys):
        self.yaml.write_text(yaml.safe_dump({
            'out': str(self.out), 'pipeline': str(self.yaml.parent / 'pipeline.sh'), 'settings': {'DATASET': 'demo'},
            'set': {'train.base_lr': [0.25, 0.5]}, **keys}))

    @property
    def sweep(self):
        return read_sweep(self.yaml)

    def calls(self):
        """What the script was called with, since the last time asked."""
        path = self.out / 'calls'
        lines = [tuple(line.split('|')) for line in path.read_text().splitlines()] if path.is_file() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.delenv('GPUS', raising=False)
    for name in ('SET_EMBEDDING', 'SET_CLASSIFIER', 'SET_CAM'):
        monkeypatch.delenv(name, raising=False)
    return Place(tmp_path)


def test_every_run_gets_its_settings(place, works):
    runs = [(f'base_lr={lr},seed={seed}', f'train.base_lr={lr} seed={seed}', f'seed={seed}', '', 'demo',
             f'train.precision=bf16 seed={seed}')
            for lr in ('0.25', '0.5') for seed in (0, 1)]
    place.write(seeds=[0, 1], settings={'DATASET': 'demo', 'SET_CAM': 'train.precision=bf16'})
    for _ in range(2):  # what is done already is the pipeline's to say
        assert run_sweep(place.sweep) == {}
        assert place.calls() == runs
    assert not (place.out / 'overwrites').exists()
    works('sweep', place.yaml, '--overwrite', '--seeds', '0')
    assert (place.out / 'overwrites').read_text().split() == ['1', '1']


def test_a_run_that_is_started_again_and_fails_is_done_no_more(place):
    run_sweep(place.sweep)
    assert all(is_done(place.sweep, run) for run in place.sweep.runs)
    (place.out / 'fail').write_text('base_lr=0.5,seed=0')
    assert run_sweep(place.sweep) == {'base_lr=0.5,seed=0': 3}
    assert [is_done(place.sweep, run) for run in place.sweep.runs] == [True, True, False, True]


def test_gpus_work_at_a_run_each(place):
    place.write(seeds=[0, 1, 2])
    assert run_sweep(place.sweep, ('0', '3')) == {}
    calls = place.calls()
    assert len({call[0] for call in calls}) == len(calls) == 6
    assert {call[3] for call in calls} == {'0', '3'}
    assert all(is_done(place.sweep, run) for run in place.sweep.runs)  # done wherever it ran


def test_a_failed_run_does_not_stop_the_others_and_is_tried_again(place, works, fails):
    (place.out / 'fail').write_text('base_lr=0.25,seed=1')
    out = fails('sweep', place.yaml, status=1, naming=[
        '1 of 4 runs failed', 'base_lr=0.25,seed=1', 'status 3', log_path(place.sweep, 'base_lr=0.25,seed=1')])
    assert '3 of 4 runs' in out
    assert 'no luck' in out
    (place.out / 'fail').unlink()
    place.calls()
    out = works('sweep', place.yaml)
    assert '4 of 4 runs' in out
    assert '| 0.25 ' in out
    assert '25.0 ± 0.0' in (place.out / 'table.md').read_text()


def test_commands_can_be_seen_before(place, works):
    lines = works('sweep', place.yaml, '--dry_run', '--seeds', '0').splitlines()
    assert place.calls() == []
    assert len(lines) == 2
    # The line is a command: run in a shell it does what the sweep would do.
    subprocess.run(['bash', '-c', lines[0].partition(': ')[2]], check=True)
    assert place.calls() == [('base_lr=0.25,seed=0', 'train.base_lr=0.25 seed=0', 'seed=0', '', 'demo', 'seed=0')]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_run_save_and_says_how_to_go_on(place, number):
    (place.out / 'wait').touch()
    process = subprocess.Popen([sys.executable, SCRIPT, place.yaml], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    run = place.out / 'base_lr=0.25,seed=0'
    for _ in range(600):
        if (run / 'waiting').is_file():
            break
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (run / 'saved').is_file()
    assert 'continue' in err
    assert 'Traceback' not in err
    assert '0 of 4 runs' in out
    (place.out / 'wait').unlink()
    assert run_sweep(place.sweep) == {}


def test_a_training_gets_its_folder_and_overrides(place, works, tmp_path):
    script = tmp_path / 'train.py'
    script.write_text(TRAINING)
    place.yaml.write_text(yaml.safe_dump({'out': str(place.out), 'train': [str(script), '--data_dir', 'a b'],
                                          'set': {'train.base_lr': [0.5]}}))
    run, = place.sweep.runs
    assert run_sweep(place.sweep, ('2',)) == {}
    folder = place.out / 'base_lr=0.5,seed=0'
    assert (folder / 'words').read_text() == '|'.join([
        '2', '--data_dir', 'a b', '--snapshot_dir', str(folder), '--resume', '--set', 'train.base_lr=0.5', 'seed=0',
        'gpus=0'])
    assert describe(place.sweep, run).startswith(f"python {script} --data_dir 'a b' ")
    assert 'loss' in works('sweep', place.yaml)


def test_a_wrong_file_is_one_line(place, fails):
    place.write(set={'train.no_such': [1]})
    fails('sweep', place.yaml, naming=[f'{place.yaml}: set', 'train.no_such'])
