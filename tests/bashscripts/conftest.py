"""A place in which the bash scripts run with a Python that only records what it is told."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

LISTS = ('train_scribble', 'train_scribble_0.5', 'train_point', 'train_box', 'train_tag', 'train_full', 'val')


class Workplace:
    """A data root with blanks in its name, a fake Python, and ways to run the script."""

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / 'fake python'
        fake = pathlib.Path(__file__).with_name('fake_python.py')
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
        self.python.chmod(0o755)
        self.data = folder / 'my data'
        (self.data / 'lists').mkdir(parents=True)
        for name in LISTS:
            (self.data / 'lists' / f'{name}.txt').write_text(name)
        self.weights = folder / 'imagenet.pth'
        self.weights.write_text('weights')
        self.run_dir = folder / 'snap' / 'spml_scribble'
        self.calls_file = folder / 'calls'

    script = ROOT / 'bashscripts' / 'voc12' / 'train_spml_scribble.sh'

    def choose(self, script, run_name):
        """Run another script of bashscripts/ from now on, whose results stand under `run_name`."""
        self.script = ROOT / 'bashscripts' / script
        self.run_dir = self.folder / 'snap' / run_name

    def environment(self, **settings):
        kept = {name: os.environ[name] for name in ('PATH', 'HOME', 'LANG', 'TMPDIR') if name in os.environ}
        return {**kept, 'SPML_PYTHON': str(self.python), 'DATAROOT': str(self.data), 'PRETRAINED': str(self.weights),
                'SNAPSHOT_ROOT': str(self.folder / 'snap'), 'FAKE_CALLS': str(self.calls_file),
                **settings}

    def run(self, command=None, cwd=None, **settings):
        """Run the script (or another command) and return the finished process; `calls` holds what Python was told."""
        self.calls_file.write_text('')
        environment = {name: value for name, value in self.environment(**settings).items() if value is not None}
        return subprocess.run(command or ['bash', str(self.script)], env=environment, cwd=cwd or self.folder,
                              check=False, capture_output=True, text=True, timeout=300)

    @property
    def calls(self):
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    def scripts(self):
        """Names of the Python scripts called, without the closing table."""
        names = [next(a for a in call['args'] if a.endswith('.py')).rsplit('/', 1)[-1] for call in self.calls]
        return [name for name in names if name != 'summary.py']

    def call(self, script, containing=''):
        """Arguments of the one call of a script, as given."""
        found = [call['args'] for call in self.calls
                 if any(a.endswith('/' + script) for a in call['args']) and containing in ' '.join(call['args'])]
        assert len(found) == 1, found
        return found[0]


@pytest.fixture
def place(tmp_path):
    return Workplace(tmp_path)
