"""Every command of README.md: run on the built-in data, or, where it needs other data, held to the scripts' options.

"Two commands" are what continuous integration itself runs, and "Your own data" has a test of its own in tests/chain.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from test_layers import LAYERS

from spml.config import load_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
SECTIONS = dict(re.findall(r'^## (.*?)\n(.*?)(?=^## |\Z)', README, re.MULTILINE | re.DOTALL))
BLOCKS = [(title, block) for title, text in SECTIONS.items()
          for block in re.findall(r'^```bash\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
          if title not in ('Two commands', 'Your own data')]
NEEDING = [block for _, block in BLOCKS if block.startswith('# needs ')]
RUNNING = [block for _, block in BLOCKS if not block.startswith('# needs ')]
PIPELINES = [block for block in RUNNING if 'bashscripts/' in block]
SCRIPTS = [block for block in RUNNING if block not in PIPELINES]


def joined(block):
    """Return the commands of a block, one a line."""
    return [line for line in block.replace('\\\n', ' ').splitlines() if line and not line.startswith('#')]


def test_there_are_commands_of_every_kind():
    assert len(NEEDING) >= 5
    assert len(PIPELINES) >= 2
    assert len(SCRIPTS) >= 4


@pytest.mark.parametrize('block', [block for _, block in BLOCKS], ids=range(len(BLOCKS)))
def test_commands_are_bash_and_name_files_that_are_there(block):
    assert subprocess.run(['bash', '-n'], input=block, text=True, check=False).returncode == 0
    named = re.findall(r'(?<![\w/$])(?:pyscripts|bashscripts|configs)/[\w./]+\.\w+', block)
    assert all((ROOT / path).is_file() for path in named), named


@pytest.mark.parametrize('block', NEEDING, ids=range(len(NEEDING)))
def test_options_of_commands_that_need_data_exist(block):
    for command in joined(block):
        script = re.search(r'pyscripts/\w+/\w+\.py(.*)', command)
        if script:
            path = ROOT / script[0].split()[0]
            text = subprocess.run([sys.executable, str(path), '--help'], capture_output=True, text=True, check=True,
                                  env={**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '200'}).stdout
            known = set(re.findall(r'(?<![\w-])--\w+', text.split('\nexample:')[0]))
            assert set(re.findall(r'(?<![\w-])--\w+', script[1])) <= known, command


@pytest.mark.parametrize('block', PIPELINES, ids=range(len(PIPELINES)))
def test_pipelines_take_their_settings(block, tmp_path):
    """With a Python that only records what it is told; the pipelines themselves run in tests/chain."""
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/bashscripts/fake_python.py" "$@"\n')
    python.chmod(0o755)
    for command in joined(block):
        environment = {'PATH': os.environ['PATH'], 'HOME': str(tmp_path), 'SPML_PYTHON': str(python),
                       'SNAPSHOT_ROOT': str(tmp_path / 'runs'), 'DATAROOT': str(tmp_path / 'data'),
                       'FAKE_CALLS': str(tmp_path / 'calls')}
        result = subprocess.run(['bash', '-c', command], cwd=ROOT, env=environment, capture_output=True, text=True,
                                check=False)
        assert result.returncode == 0, (command, result.stderr)
    for call in (tmp_path / 'calls').read_text().splitlines():
        args = json.loads(call)['args']
        if args[0].endswith('train.py'):
            overrides = [args[i + 1] for i, arg in enumerate(args) if arg == '--set']
            load_config(args[args.index('--cfg_path') + 1], overrides)


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A copy of this project after a quickstart of a few steps on a few images."""
    folder = tmp_path_factory.mktemp('readme') / 'project'
    for name in ('spml', 'pyscripts', 'bashscripts', 'configs'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for path in (folder / 'configs/demo').glob('*.yaml'):
        text = re.sub(r'(max_iteration|snapshot_step): \d+', r'\1: 3', path.read_text())
        path.write_text(re.sub(r'warmup_iteration: \d+', 'warmup_iteration: 1', text))
    bin_dir = folder.parent / 'bin'
    bin_dir.mkdir()
    (bin_dir / 'python').write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    # What the commands install is what the tests run with.
    (bin_dir / 'pip').write_text('#!/bin/sh\n')
    for path in bin_dir.iterdir():
        path.chmod(0o755)
    environment = {**os.environ, 'PATH': f'{bin_dir}:{os.environ["PATH"]}', 'PYTHONPATH': str(folder),
                   'SPML_PYTHON': sys.executable, 'DEMO_OPTIONS': '--num_train 8 --num_val 3 --num_test 2'}
    result = subprocess.run(['bash', 'bashscripts/quickstart.sh'], cwd=folder, env=environment, capture_output=True,
                            text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return folder, environment


@pytest.mark.slow
def test_the_commands_on_the_built_in_data_run_as_they_stand(project):
    folder, environment = project
    for block in SCRIPTS:
        result = subprocess.run(['bash', '-e', '-c', block], cwd=folder, env=environment, capture_output=True,
                                text=True, check=False)
        assert result.returncode == 0, (block, result.stdout[-2000:], result.stderr[-2000:])


@pytest.mark.slow
def test_the_example_of_the_python_interface_runs(project):
    folder, environment = project
    code = next(block for block in re.findall(r'^```python\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)
                if 'load_segmenter' in block)
    result = subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment, capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0, result.stderr
    shapes = re.findall(r'\(([\d, ]+)\)', result.stdout)
    height, width = map(int, shapes[0].split(', '))
    assert shapes[1].split(', ') == ['6', str(height), str(width)]
    assert shapes[2].split(', ')[1:] == [str(height), str(width)]


def test_the_picture_is_there():
    for path in re.findall(r'!\[[^\]]+\]\(([^)]+)\)', README):
        assert (ROOT / path).is_file(), path


def test_the_architecture_is_that_of_the_imports():
    assert LAYERS in README
