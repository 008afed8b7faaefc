"""Sourcing a script leaves the shell as it was; the scripts are clean."""
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Everything of a shell that a user could notice, except the variables that change by themselves.
STATE = r"""
state() {
    set -o; shopt; declare -F; declare -f mine; alias; trap; pwd; umask; jobs
    for name in $(compgen -v); do
        case $name in
            _ | name | status | PIPESTATUS | BASH_* | BASHPID | LINENO | FUNCNAME | *RANDOM | SECONDS | EPOCH*) ;;
            *) declare -p "$name" ;;
        esac
    done
}
shopt -s nullglob; set -o noclobber
trap 'echo leaving' EXIT; trap 'echo usr' USR1
mine() { echo mine; }
alias ll='ls -l'
PYTHONPATH=/somewhere
"""


@pytest.mark.parametrize('options', ['', 'set -fu; set -o pipefail', 'shopt -s expand_aliases; alias printf=false',
                                     'cd() { echo no; }; export -f cd'])
@pytest.mark.parametrize('status', [0, 3])
def test_sourcing_leaves_the_shell_as_it_was(place, options, status):
    code = f"""{STATE}{options}
status=; state >| before
source '{place.script}'
status=$?; state >| after
diff before after && echo "alive with status $status"
"""
    result = place.run(['bash', '--norc', '-c', code], STATUS=str(status))
    assert result.stdout.endswith(f'alive with status {status}\nleaving\n'), result.stdout + result.stderr
    assert (place.folder / 'before').stat().st_size > 1000
    assert place.told


def test_sourcing_sees_settings_that_are_not_exported(place):
    code = f'SCRIBBLE=dilate_3_0.5; GPUS=7; FORCE=; PRETRAINED=; source {str(place.script)!r}'
    plan = place.plan(command=['bash', '--norc', '-c', code])
    assert plan.stages['train_embedding'].options['--data_list'].endswith('train_scribble_0.5.txt')
    assert plan.stages['train_embedding'].overrides == ['network.pretrained=']
    assert plan.settings['GPUS'] == '7'


def test_scripts_parse_and_pass_shellcheck_where_there_is_one():
    scripts = [*(ROOT / 'bashscripts').rglob('*.sh'), ROOT / '.ci' / 'run']
    assert len(scripts) >= 7
    for script in scripts:
        subprocess.run(['bash', '-n', str(script)], check=True)
    if shutil.which('shellcheck'):
        checked = subprocess.run(['shellcheck', '-x', *map(str, scripts)], cwd=ROOT, capture_output=True, text=True,
                                 check=False)
        assert checked.returncode == 0, checked.stdout
