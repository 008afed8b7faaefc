"""DensePose's three recorded training steps (kit_c), to the precision that float32 has there.

The kit's weights are random and its PSP head normalises over two values a channel (two images, one pooled pixel),
which amplifies rounding: the same code with one thread and with two has updates of cosine 0.95 to 0.97 after three
steps, a float64 run is at 0.96 to 0.97 to either and at 0.97 to the record. `check.py` asks for more than 0.97 of the
record's updates, which is then a matter of luck. Here the first step, before rounding has spread, is held to the
record to 0.1 %, and the three steps together to bars outside of what rounding does.
"""
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = {'sem_ann_loss': 'sem_ann_loss', 'sem_occ_loss': 'feat_aff_loss', 'img_sim_loss': 'img_sim_loss',
         'accuracy': 'accuracy'}  # the release logs feature affinity as sem_occ
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def outcome(tmp_path_factory):
    """Return what check.py printed of the stage, and the folder it left."""
    folder = tmp_path_factory.mktemp('kit_c')
    result = subprocess.run([sys.executable, str(HERE / 'check.py'), str(HERE / 'kit_c'), '--only', 'train_1_process',
                             '--keep', str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr, folder


def test_the_first_step_logs_what_the_record_says(outcome):
    first = json.loads((outcome[1] / 'train_1_process' / 'metrics.jsonl').read_text().splitlines()[0])
    record = np.load(HERE / 'kit_c' / 'expected' / 'train_1_process.npz')
    for recorded, ours in NAMES.items():
        np.testing.assert_allclose(first[ours], record[f'log/{recorded}'][0], rtol=1e-3, err_msg=ours)


def test_three_steps_stay_near_the_record(outcome):
    found = re.search(r'lowest update cosine ([\d.]+) .*?norm gaps ([\d.]+) %, worst logged value ([\d.]+) %', outcome[0])
    assert found, outcome[0]
    cosine, norm_gap, logged = map(float, found.groups())
    assert cosine > 0.93
    assert norm_gap < 8
    assert logged < 8
