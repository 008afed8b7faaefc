"""Every command of README.md and misc/*.md: run on the built-in data, or, where it needs more, held to its options.

The pipelines run in tests/chain, "Your own data" too; `bashscripts/test.sh` is what continuous integration runs.
"""
import contextlib
import io
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from test_layers import LAYERS

from spml.config import load_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
TEXT = '\n'.join([README, *(path.read_text(encoding='utf-8') for path in sorted((ROOT / 'misc').glob('*.md')))])
BLOCKS = re.findall(r'^```bash\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r'^```python\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)
NEEDING = [block for block in BLOCKS if block.startswith('# needs ')]
PIPELINES = [block for block in BLOCKS if block not in NEEDING and 'bashscripts/' in block]
SCRIPTS = [block for block in BLOCKS if block not in NEEDING + PIPELINES]


def commands(blocks):
    """Return the commands of blocks, one per line, without their comments."""
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    return [re.sub(r'\s#.*', '', line) for line in lines if line and not line.startswith('#')]


def options_of(script):
    """Return the options that a script's help lists; in this process, for the import of torch is what takes time."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        patch.setattr(sys, 'argv', [script, '--help'])
        runpy.run_path(str(ROOT / script), run_name='__main__')
    return set(re.findall(r'(?<![\w-])--\w+', text.getvalue().split('\nexample:')[0]))


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


def test_there_are_commands_of_every_kind():
    assert len(NEEDING) >= 5
    assert len(PIPELINES) >= 3
    assert len(SCRIPTS) >= 4


def test_commands_are_bash_and_name_files_that_are_there():
    assert subprocess.run(['bash', '-n'], input='\n'.join(BLOCKS), text=True, check=False).returncode == 0
    named = set(re.findall(r'(?<![\w/$])(?:pyscripts|bashscripts|configs)/[\w./]+\.\w+', '\n'.join(BLOCKS)))
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_options_of_commands_exist():
    used = {}
    for command in commands(BLOCKS):
        for script, rest in re.findall(r'(pyscripts/\w+/\w+\.py)(.*)', command):
            used.setdefault(script, set()).update(re.findall(r'(?<![\w-])--\w+', rest))
    assert len(used) > 15
    assert {script: unknown for script, options in used.items() if (unknown := options - options_of(script))} == {}


@pytest.mark.parametrize('command', [command for command in commands(BLOCKS) if 'bashscripts/' in command])
def test_pipelines_have_the_settings_that_are_given(command):
    *words, script = shlex.split(command)
    settings = dict(word.split('=', 1) for word in words if word != 'bash' and '=' in word)
    source = (ROOT / script).read_text() + ''.join(path.read_text() for path in (ROOT / 'bashscripts/lib').iterdir())
    assert [name for name in settings if f'${{{name}' not in source] == []
    if 'SET_EMBEDDING' in settings:
        load_config(ROOT / f'configs/{settings["DATASET"]}/base.yaml', settings['SET_EMBEDDING'].split())


def test_every_setting_in_the_table_is_one():
    table = re.search(r'^\| setting \|.*?\n\n', TEXT, re.MULTILINE | re.DOTALL)[0]
    names = re.findall('`([A-Z_]+)`', ' '.join(re.findall(r'^\| (.*?) \|', table, re.MULTILINE)))
    source = ''.join(path.read_text() for path in (ROOT / 'bashscripts').rglob('*.sh'))
    assert len(names) > 20
    assert [name for name in names if f'${{{name}' not in source] == []


@pytest.fixture(scope='module')
def project(tmp_path_factory, copy_project):
    """A copy of this project after a quickstart of a few steps on a few images."""
    folder = tmp_path_factory.mktemp('readme') / 'project'
    environment = copy_project(folder) | {'DEMO_OPTIONS': '--num_train 8 --num_val 3 --num_test 2'}
    for path in (folder / 'configs/demo').glob('*.yaml'):
        text = re.sub(r'(max_iteration|snapshot_step): \d+', r'\1: 3', path.read_text())
        path.write_text(re.sub(r'warmup_iteration: \d+', 'warmup_iteration: 1', text))
    result = subprocess.run(['bash', 'bashscripts/quickstart.sh'], cwd=folder, env=environment, capture_output=True,
                            text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return folder, environment


@pytest.mark.slow
@pytest.mark.xdist_group('readme')
def test_the_commands_on_the_built_in_data_run_as_they_are(project):
    folder, environment = project
    for block in SCRIPTS:
        result = subprocess.run(['bash', '-e', '-c', block], cwd=folder, env=environment, capture_output=True,
                                text=True, check=False)
        assert result.returncode == 0, (block, result.stdout[-2000:], result.stderr[-2000:])


@pytest.mark.slow
@pytest.mark.xdist_group('readme')
def test_the_example_of_the_python_interface_runs(project):
    folder, environment = project
    code = next(block for block in PYTHON if 'load_segmenter' in block)
    result = subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment, capture_output=True, text=True,
                            check=False)
    assert result.returncode == 0, result.stderr
    shapes = re.findall(r'\(([\d, ]+)\)', result.stdout)
    height, width = map(int, shapes[0].split(', '))
    assert shapes[1].split(', ') == ['6', str(height), str(width)]
    assert shapes[2].split(', ')[1:] == [str(height), str(width)]


def test_every_relation_in_the_example_of_the_method_trains_the_network():
    code, = [block for block in PYTHON if 'from spml import segsort' in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names = {}
    exec(compile(code, 'README.md', 'exec'), names)
    assert set(names['losses']) == {'sem_ann_loss', 'sem_occ_loss', 'img_sim_loss'}
    assert all(0 < loss < float('inf') for loss in names['losses'].values())
    weight = names['network'].weight
    assert weight.isfinite().all()
    assert weight.grad.abs().max() > 0
    # Two earlier steps are remembered, and no two of their images share an id.
    bank = names['bank']
    assert len(bank.steps) == 2
    assert len(bank.extend(names['segments']).image.unique()) == 12


def test_the_code_map_has_the_layers_of_the_imports():
    assert LAYERS in ' '.join(README.split())
