"""setup.sh and test.sh with an environment whose Python only pretends to install and to test."""
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# pip fails once for each line of the file `failures`, which it says; other modules fail when $FAIL names them.
FAKE = r"""#!/bin/bash
here=$(dirname "$0")/..
echo "$*" >> "$here/calls"
case "$*" in
    '-m pip'*)
        if [ -s "$here/failures" ]; then
            head -n 1 "$here/failures"; sed -i 1d "$here/failures"
            exit 1
        fi ;;
    *torch*) [ "$FAIL" != import ] || { echo 'ImportError: libGL'; exit 1; } ;;
    "-m ${FAIL:-nothing}"*) exit 5 ;;
esac
"""


@pytest.fixture
def prefix(tmp_path):
    """An active virtual environment with the fake Python."""
    (tmp_path / 'bin').mkdir()
    python = tmp_path / 'bin' / 'python'
    python.write_text(FAKE)
    python.chmod(0o755)
    return tmp_path


def run(prefix, *words, **settings):
    (prefix / 'calls').write_text('')
    environment = {'PATH': os.environ['PATH'], 'VIRTUAL_ENV': str(prefix), **settings}
    return subprocess.run(['bash', *words], env=environment, cwd='/', capture_output=True, text=True, check=False,
                          timeout=60)


def setup(prefix, *words, **settings):
    return run(prefix, str(ROOT / 'bashscripts' / 'setup.sh'), *words, **settings)


def installations(prefix):
    return [line for line in (prefix / 'calls').read_text().splitlines() if line.startswith('-m pip install')]


def test_installs_into_the_active_environment_once(prefix):
    result = setup(prefix)
    assert result.returncode == 0, result.stderr
    assert [line.split()[-2:] for line in installations(prefix)] == [['-e', '.[lite]']]
    assert 'done before' in setup(prefix).stdout
    assert installations(prefix) == []
    setup(prefix, 'test')
    assert [line.split()[-1] for line in installations(prefix)] == ['.[test]']


@pytest.mark.parametrize('said', [
    'ERROR: Failed building wheel for pydensecrf2', 'OSError: [Errno 28] No space left on device',
    "ERROR: Package 'spml' requires a different Python: 3.9.1 not in '>=3.10'"])
def test_a_failed_installation_is_one_line_and_tried_again_next_time(prefix, said):
    (prefix / 'failures').write_text(f'{said}\n')
    result = setup(prefix)
    assert result.returncode == 2
    assert said in result.stderr
    assert 'C++ compiler' in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert setup(prefix).returncode == 0
    assert len(installations(prefix)) == 1


def test_what_does_not_load_is_an_error(prefix):
    result = setup(prefix, FAIL='import')
    assert result.returncode == 2
    assert 'libGL' in result.stderr


def test_a_given_python_is_left_as_it_is(prefix):
    assert setup(prefix, SPML_PYTHON='/some/python').returncode == 0
    assert (prefix / 'calls').read_text() == ''


@pytest.mark.parametrize(('fail', 'status'), [('', 0), ('ruff', 1), ('mypy', 1), ('pytest', 1)])
def test_test_sh_runs_every_part_and_sums_up(prefix, fail, status):
    result = run(prefix, str(ROOT / 'bashscripts' / 'test.sh'), FAIL=fail)
    assert result.returncode == status
    calls = (prefix / 'calls').read_text()
    assert '-m ruff check .' in calls
    assert '-m mypy' in calls
    assert re.search('-m pytest -n .* -m not slow', calls)
    summary = result.stdout.split('== summary\n')[1].splitlines()
    assert [('FAIL' in line) for line in summary] == [fail == 'ruff', fail == 'mypy', fail == 'pytest']
