"""A small pipeline of stub scripts in a separate folder, run as the bash scripts run theirs."""
import io
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from spml.pipeline.__main__ import main
from spml.program import execute

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ('make_synthetic.py', 'train.py', 'train_classifier.py', 'inference.py', 'pseudo_label.py',
           'benchmark_by_mIoU.py')
CONFIG = """
dataset: {num_classes: 3}
network: {backbone_types: panoptic_deeplab_14, embedding_dim: 8, pretrained: ''%s}
train: {max_iteration: 11}
"""


class Place:
    """Data of one image, stub scripts, two configurations, and the pipeline over them."""

    def __init__(self, folder, captured):
        self.captured = captured
        self.folder, self.data, self.run_dir = folder, folder / 'data', folder / 'snap' / 'run'
        self.data.mkdir()
        for name in ('a.jpg', 'weak.png', 'regions.png', 'truth.png'):
            (self.data / name).write_text(name)
        (self.data / 'train.txt').write_text('a.jpg weak.png regions.png\n')
        (self.data / 'val.txt').write_text('a.jpg truth.png\n')
        for script in SCRIPTS:
            shutil.copy(pathlib.Path(__file__).with_name('stub.py'), folder / script)
        (folder / 'embedding.yaml').write_text(CONFIG % '')
        (folder / 'classifier.yaml').write_text(CONFIG % ', prediction_types: softmax_classifier')
        (folder / 'weights').write_text('weights')
        # Without the built-in data, unless a test asks for it.
        self.overrides, self.drop, self.extra, self.num_val = {'embedding': [], 'classifier': []}, ['demo_data'], [], 4
        self.settings = {'TRAIN_LIST': str(self.data / 'train.txt'), 'VAL_LIST': str(self.data / 'val.txt')}
        self.behave()

    def behave(self, **stages):
        """Say what the stubs do otherwise: `behave(train_embedding={'fail': 3})`."""
        (self.folder / 'behaviour.json').write_text(json.dumps(stages))

    def stages(self):
        """Return (title, name, output, script, arguments) of each stage."""
        run, data, folder = self.run_dir, self.data, self.folder
        common = ['--data_dir', data, '--data_list']
        embedding, classifier = (['--cfg_path', folder / f'{name}.yaml',
                                  *(word for text in self.overrides[name] for word in ('--set', text))]
                                 for name in ('embedding', 'classifier'))
        score = ['--gt_dir', data, '--gt_list', data / 'val.txt', *embedding]
        return [
            ('', 'demo_data', data / 'val.txt', 'make_synthetic.py', ['--out', data, '--num_val', self.num_val]),
            ('', 'train_embedding', run / 'stage1', 'train.py',
             [*common, data / 'train.txt', '--snapshot_dir', run / 'stage1', *embedding]),
            ('', 'inference', run / 'inference', 'inference.py',
             [*common, data / 'val.txt', '--snapshot_dir', run / 'stage1', '--save_dir', run / 'inference',
              *embedding]),
            ('joint head', 'score', run / 'scores/score.json', 'benchmark_by_mIoU.py',
             ['--pred_dir', run / 'inference/semantic_gray', *score, '--json', run / 'scores/score.json']),
            ('', 'labels', run / 'labels', 'pseudo_label.py',
             [*common, data / 'train.txt', '--snapshot_dir', run / 'stage1', '--save_dir', run / 'labels', '--list_out',
              run / 'lists/pseudo.txt', '--source', 'softmax', *embedding]),
            ('', 'train_classifier', run / 'classifier', 'train_classifier.py',
             [*common, run / 'lists/pseudo.txt', '--snapshot_dir', run / 'classifier', '--embedding', run / 'stage1',
              *classifier]),
            ('final', 'score_final', run / 'scores/final.json', 'benchmark_by_mIoU.py',
             ['--pred_dir', run / 'labels/semantic_gray', *score, '--json', run / 'scores/final.json'])]

    def words(self, **settings):
        """Return the list as bash writes it."""
        words = []
        for name, value in {**self.settings, **settings}.items():
            words += ['3', 'setting', name, value]
        for title, name, output, script, arguments in self.stages():
            if name in self.drop:
                continue
            if script in ('inference.py', 'pseudo_label.py'):
                arguments = [*arguments, *self.extra]
            words += [str(5 + len(arguments)), 'stage', title, name, output, self.folder / script, *arguments]
        return ''.join(f'{word}\0' for word in words).encode()

    def start(self, **settings):
        """Start the pipeline and return the process."""
        (self.folder / 'calls.jsonl').write_text('')
        process = subprocess.Popen(
            [sys.executable, '-m', 'spml.pipeline', str(self.run_dir), '--script', 'x.sh'], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True,
            # These tests may run under nohup, which a pipeline obeys.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        process.stdin.write(self.words(**settings))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, **settings):
        """Run the pipeline in this process; return its status, what it printed, and what it complained of."""
        (self.folder / 'calls.jsonl').write_text('')
        with pytest.raises(SystemExit) as left:
            execute(lambda: main([str(self.run_dir), '--script', 'x.sh'], io.BytesIO(self.words(**settings))))
        out, error = self.captured()
        return left.value.code, out, error

    def works(self, **settings):
        """Run the pipeline, which ends well; return what it printed."""
        status, out, error = self.run(**settings)
        assert status == 0, error
        return out

    def made(self, **settings):
        """Run the pipeline, which ends well; return the stages whose scripts were started, in order."""
        self.works(**settings)
        return self.calls

    def refused(self, **settings):
        """Run the pipeline, which refuses in one line before any stage; return the line."""
        status, _, error = self.run(**settings)
        assert (status, self.calls) == (2, [])
        assert error.startswith('error: ')
        assert error.count('\n') == 1
        return error

    @property
    def calls(self):
        """The stages whose scripts were started, in order."""
        return [call['stage'] for call in self.all_calls]

    @property
    def all_calls(self):
        return [json.loads(line) for line in (self.folder / 'calls.jsonl').read_text().splitlines()]


@pytest.fixture
def place(tmp_path, capfd):
    return Place(tmp_path, capfd.readouterr)
