"""What documents and comments point to exists: sections of documents, links, and named files."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / 'README.md', *sorted((ROOT / 'misc').glob('*.md'))]
ROOMS = ('spml', 'pyscripts', 'bashscripts', 'configs', 'tests')
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob('*'))
           if path.suffix in ('.py', '.sh', '.yaml') and path != pathlib.Path(__file__)]
SECTIONS = {path.name: {'', *re.findall(r'^##+ (.*)$', path.read_text(encoding='utf-8'), re.MULTILINE)}
            for path in DOCUMENTS}
SECTIONS['METHOD.md'].remove('')  # it is cited by section


def wrong_citations(text):
    """Return what a source cites that is not there: `NAME.md, "Section"`, `"Section" in NAME.md` or just a document."""
    # A citation may run over the end of a line of a comment or a docstring.
    text = re.sub(r'\n\s*#?\s*', ' ', text)
    found = re.findall(r'(?:"([^"]*)" in (?:misc/)?)?\b([A-Z]+\.md)(?:, "([^"]*)")?', text)
    return [(name, before or after) for before, name, after in found
            if (before or after) not in SECTIONS.get(name, ())]


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
    assert wrong_citations('see METHOD.md,\n    # "Labels", METHOD.md, "Nowhere", METHOD.md, PIPELINES.md, NO.md; '
                           'under "Ablating" in README.md; under "By foot" in misc/PIPELINES.md') == [
        ('METHOD.md', 'Nowhere'), ('METHOD.md', ''), ('NO.md', ''), ('PIPELINES.md', 'By foot')]
    (tmp_path / 'a.md').write_text('# One `two`, three\n')
    assert wrong_links('[x](a.md#one-two-three) [y](b.md) [z](a.md#four) [w](https://b.md) [v](#here)\n# Here\n',
                       tmp_path) == ['b.md', 'a.md#four']
    assert missing_files('`spml/names.py`, `spml/names`, `configs`, `spml/no/such.py`') == ['spml/no/such.py']


def test_citations_in_the_code_have_a_target():
    wrong = {str(path.relative_to(ROOT)): found for path in SOURCES
             if (found := wrong_citations(path.read_text(encoding='utf-8')))}
    assert wrong == {}
    assert sum('METHOD.md' in path.read_text(encoding='utf-8') for path in SOURCES) > 20


def test_errors_that_are_explained_are_those_of_the_code():
    quoted = re.findall(r'^- \*`(.*)`\*:', (ROOT / 'misc/PIPELINES.md').read_text(encoding='utf-8'), re.MULTILINE)
    source = '\n'.join(path.read_text(encoding='utf-8') for path in (ROOT / 'spml').rglob('*.py'))
    assert len(quoted) > 5
    assert [words for words in quoted if words not in source] == []


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_documents_link_and_name_what_is_there(path):
    text = path.read_text(encoding='utf-8')
    assert wrong_links(text, path.parent) == []
    assert missing_files(text) == []
