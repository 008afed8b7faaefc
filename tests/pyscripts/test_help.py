"""`--help` of every script: its purpose, every option with its default, and an example."""
import pathlib
import re
import runpy
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Other files are modules of these.
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'pyscripts').rglob('*.py')
                 if "__name__ == '__main__'" in path.read_text())


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def help_text(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [script, '--help'])
    monkeypatch.setenv('COLUMNS', '1000')  # no wrapping: an option is one line
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / script), run_name='__main__')
    assert left.value.code == 0
    return capsys.readouterr().out


def parts(text):
    """Split help into usage, purpose, option lines and example."""
    found = re.fullmatch(r'usage: (.*?)\n\n(.*?)\n\n((?:positional arguments|options):\n.*)\n\nexample:\n(.*)', text,
                         re.DOTALL)
    assert found, text
    usage, purpose, arguments, example = found.groups()
    # The help of an option with a long name is on the next line, far to the right.
    arguments = re.sub(r'\n {5,}', '  ', arguments)
    return usage, purpose, re.findall('^ .*', arguments, re.MULTILINE), example


def test_help_shows_purpose_defaults_and_an_example(script, help_text):
    usage, purpose, lines, example = parts(help_text)
    assert usage.startswith(pathlib.Path(script).name)
    assert re.match(r'[A-Z][^\n]{20,}[.:]( |$)', purpose, re.MULTILINE), 'a sentence says what the script does'
    for line in lines:
        if not line.startswith('  -h, --help'):
            assert re.search(r'\w.* {2,}\w.*\((required|default: .+)\)', line), f'no help, or no default: {line}'
    assert example.startswith(f'  python {script.removesuffix("/__main__.py")} ')


def test_the_example_fits_the_options(help_text):
    _, _, lines, example = parts(help_text)
    known = {name for line in lines for name in re.findall(r'(?<![\w-])--?\w+', line.strip().split('  ')[0])}
    required = {name for line in lines if line.endswith('(required)') for name in re.findall(r'^ *(--\w+)', line)}
    for command in example.split('\n\n'):
        used = set(re.findall(r'(?<![\w-])--\w+', command))
        assert used <= known, f'the example has unknown options: {used - known}'
        assert required <= used, f'the example is without {required - used}'
