"""What the documents and the comments point at is there: sections of misc/METHOD.md, links, and named files."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / 'README.md', *sorted((ROOT / 'misc').glob('*.md'))]
ROOMS = ('spml', 'pyscripts', 'bashscripts', 'configs', 'tests')
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob('*'))
           if path.suffix in ('.py', '.sh', '.yaml') and path != pathlib.Path(__file__)]
SECTIONS = set(re.findall(r'^##+ (.*)$', (ROOT / 'misc/METHOD.md').read_text(encoding='utf-8'), re.MULTILINE))


def wrong_citations(text):
    """Return the mentions of METHOD.md in a source that are not followed by the name of one of its sections."""
    # A citation may run over the end of a line of a comment or a docstring.
    text = re.sub(r'\n\s*#?\s*', ' ', text)
    return [mention for mention, section in re.findall(r'((?:METHOD|PIPELINES)\.md(?:, "([^"]*)")?)', text)
            if section not in SECTIONS]


def wrong_links(text, folder):
    """Return the links of a document in `folder` to files or headings of this project that are not there."""
    found = []
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        name, _, anchor = target.partition('#')
        path = folder / name if name else None
        if '://' not in target and ((path and not path.exists()) or (anchor and anchor not in anchors(path, text))):
            found.append(target)
    return found


def anchors(path, text):
    """Return the anchors of a document's headings, as GitHub makes them; those of `text` where `path` is None."""
    headings = re.findall(r'^#+ (.*)$', path.read_text(encoding='utf-8') if path else text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-') for heading in headings}


def missing_files(text):
    """Return the paths in backticks that begin with a folder of this project and are not there."""
    named = re.findall(rf'`((?:{"|".join(ROOMS)})/[\w./]+)`', text)
    return [name for name in named if not (ROOT / name).exists() and not (ROOT / f'{name}.py').exists()]


def test_the_checks_find_what_is_wrong(tmp_path):
    assert wrong_citations('see METHOD.md,\n    # "Labels" and METHOD.md, "Nowhere", PIPELINES.md') == [
        'METHOD.md, "Nowhere"', 'PIPELINES.md']
    (tmp_path / 'a.md').write_text('# One `two`, three\n')
    assert wrong_links('[x](a.md#one-two-three) [y](b.md) [z](a.md#four) [w](https://b.md) [v](#here)\n# Here\n',
                       tmp_path) == ['b.md', 'a.md#four']
    assert missing_files('`spml/names.py`, `spml/names`, `configs`, `spml/no/such.py`') == ['spml/no/such.py']


def test_citations_in_the_code_have_a_target():
    wrong = {str(path.relative_to(ROOT)): found for path in SOURCES
             if (found := wrong_citations(path.read_text(encoding='utf-8')))}
    assert wrong == {}
    assert sum('METHOD.md' in path.read_text(encoding='utf-8') for path in SOURCES) > 20


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_documents_link_and_name_what_is_there(path):
    text = path.read_text(encoding='utf-8')
    assert wrong_links(text, path.parent) == []
    assert missing_files(text) == []
