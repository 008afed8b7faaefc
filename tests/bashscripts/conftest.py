"""A place in which the bash scripts list their stages to a Python that only writes the list down."""
import os
import pathlib
import subprocess
import types

import pytest

from spml.pipeline.plan import read_plan

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTS = ('train_scribble', 'train_scribble_0.5', 'train_point', 'train_box', 'train_tag', 'train_full', 'val')
PYTHON = """#!/bin/sh
[ "$1" != -c ] || exit 0
cat >"$0.plan"
printf '%s\\n' "$@" >"$0.arguments"
exit "${STATUS:-0}"
"""


class Place:
    """A data root with blanks in its name, a Python that writes down what it is told, and ways to run a script."""

    script = ROOT / 'bashscripts' / 'voc12' / 'train_spml_scribble.sh'

    def __init__(self, folder):
        self.folder, self.python, self.data = folder, folder / 'some python', folder / 'my data'
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        (self.data / 'lists').mkdir(parents=True)
        for name in LISTS:
            (self.data / 'lists' / f'{name}.txt').write_text(name)
        self.run_dir = folder / 'snap' / 'spml_scribble'

    def choose(self, script, run_name):
        """Run another script of bashscripts/ from now on, whose results go to `run_name`."""
        self.script, self.run_dir = ROOT / 'bashscripts' / script, self.folder / 'snap' / run_name

    def run(self, command=None, cwd=None, **settings):
        """Run the script (or another command); `plan` says what Python was told. None unsets a setting."""
        for file in self.folder.glob('some python.*'):
            file.unlink()
        kept = {name: os.environ[name] for name in ('PATH', 'HOME', 'LANG', 'TMPDIR') if name in os.environ}
        settings = {**kept, 'SPML_PYTHON': str(self.python), 'DATAROOT': str(self.data),
                    'SNAPSHOT_ROOT': str(self.folder / 'snap'), **settings}
        return subprocess.run(command or ['bash', str(self.script)], cwd=cwd or self.folder, check=False,
                              env={name: value for name, value in settings.items() if value is not None},
                              capture_output=True, text=True, timeout=60)

    @property
    def told(self):
        """Whether Python was started at all."""
        return pathlib.Path(f'{self.python}.plan').exists()

    @property
    def arguments(self):
        return pathlib.Path(f'{self.python}.arguments').read_text().splitlines()

    def plan(self, **settings):
        """Run the script, which must succeed; return its settings, the names of its stages, and the stages by name."""
        result = self.run(**settings)
        assert result.returncode == 0, result.stderr
        with open(f'{self.python}.plan', 'rb') as stream:
            plan = read_plan(stream)
        return types.SimpleNamespace(settings=plan.settings, names=[stage.name for stage in plan.stages],
                                     stages={stage.name: stage for stage in plan.stages})


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)
