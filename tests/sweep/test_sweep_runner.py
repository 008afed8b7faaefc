"""Running sweeps, where bash scripts take the place of pipelines, and the tables of their scores."""
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from spml.errors import DataError
from spml.pipeline.record import Recorder
from spml.sweep.grid import read_sweep
from spml.sweep.runner import describe, is_done, log_path, read_results, run_sweep, write_tables

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


def give_scores(folder, **scores):
    (folder / 'scores').mkdir(parents=True)
    for name, value in scores.items():
        (folder / 'scores' / f'{name}.json').write_text(json.dumps({'mean_iou': value}))


def cells(text):
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines()]


def test_results_of_a_pipeline(sweep):
    plan = sweep()
    folder = plan.out / plan.runs[0].name
    give_scores(folder, b=0.25, a=0.5)
    assert list(read_results(plan, plan.runs[0]).items()) == [('a', 50), ('b', 25)]
    record = Recorder(folder)
    record.write('run')
    for name in 'ba':
        record.write('stage', stage=name, status='done', script='x.py', arguments=[], output=f'scores/{name}.json')
    assert list(read_results(plan, plan.runs[0]).items()) == [('b', 25), ('a', 50)]
    assert read_results(sweep(scores={'a': 'title'}), plan.runs[0]) == {'a': 50}
    for scores, seed, named in ((['c'], 0, 'no score c; it has b, a'), (None, 9, 'at all')):
        plan = sweep(scores=scores, seeds=[seed])
        with pytest.raises(DataError, match=named):
            read_results(plan, plan.runs[0])
    (folder / 'scores' / 'x.json').write_text('[]')
    with pytest.raises(DataError, match=r'x\.json.*mean_iou'):
        read_results(sweep(), sweep().runs[0])


def test_results_of_a_training(sweep, script):
    plan = sweep(pipeline=None, train=[str(script)])
    (plan.out / 'seed=0').mkdir(parents=True)
    (plan.out / 'seed=0' / 'metrics.jsonl').write_text(
        '{"iteration": 0, "lr": 1, "loss": 3}\n{"iteration": 10, "lr": 1, "loss": 2, "accuracy": 0.5}\n')
    assert read_results(plan, plan.runs[0]) == {'loss': 2, 'accuracy': 0.5}


def test_tables_hold_mean_and_spread_over_the_seeds_that_are_done(sweep):
    plan = sweep(set={'train.base_lr': [0.1, 0.2], 'train.crop_size': [[8, 8]]}, seeds=[0, 1, 2])
    values = np.random.default_rng().uniform(0, 100, 6)
    results = {run.name: {'score_x': value, 'y': 1.0} for run, value in zip(plan.runs, values.tolist(), strict=True)}
    assert cells(write_tables(plan, results))[0] == ['base_lr', 'crop_size', 'x', 'y']
    del results[plan.runs[5].name], results[plan.runs[4].name]
    text = write_tables(plan, results)
    rows = list(csv.DictReader((plan.out / 'table.csv').open()))
    assert [(row['base_lr'], row['crop_size'], row['seeds']) for row in rows] == [
        ('0.1', '[8,8]', '3'), ('0.2', '[8,8]', '1')]
    assert float(rows[0]['score_x_mean']) == pytest.approx(values[:3].mean())
    assert float(rows[0]['score_x_std']) == pytest.approx(values[:3].std(ddof=1))
    assert float(rows[1]['score_x_mean']) == pytest.approx(values[3])
    assert rows[1]['score_x_std'] == ''
    assert text == (plan.out / 'table.md').read_text()
    header, _, first, second = cells(text)
    assert header == ['base_lr', 'crop_size', 'seeds', 'x', 'y']
    assert first[3] == f'{values[:3].mean():.1f} ± {values[:3].std(ddof=1):.1f}'
    assert second[2:] == ['1', f'{values[3]:.1f}', '1.0']
    runs = list(csv.DictReader((plan.out / 'runs.csv').open()))
    assert [row['run'] for row in runs] == [run.name for run in plan.runs]
    assert [row['score_x'] for row in runs] == [*map(str, values[:4].tolist()), '', '']
    assert [row['seed'] for row in runs] == ['0', '1', '2', '0', '1', '2']


def test_titles_of_runs_and_scores_are_those_of_the_file(sweep):
    plan = sweep(runs={'a': {'title': 'A = a'}, 'b': {}}, seeds=[0, 1], scores={'end': 'at the end'})
    results = {'a_0': 25, 'a_1': 35, 'b_0': 50, 'b_1': 50}
    # The deviation of 25 and 35 is 10 / sqrt(2).
    header, _, *rows = cells(write_tables(plan, {name: {'end': value} for name, value in results.items()}))
    assert header == ['mean IoU in %', 'at the end']
    assert rows == [['A = a', '30.0 ± 7.1'], ['b', '50.0 ± 0.0']]


def test_tables_of_nothing_yet(sweep):
    plan = sweep(set={'train.base_lr': [0.1]})
    assert '| 0.1 ' in write_tables(plan, {})
