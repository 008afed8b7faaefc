"""The parts of `spml` import one another in one direction only, from the right of the line below to its left."""
import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / 'spml'

# Parts between two `<` are on one level and do not import one another.
LAYERS = ('names errors < utils < program recipe < config < cli < visualization segsort < models data '
          '< scenes training inference evaluation < pipeline < prepare sweep api < report')
HEIGHT = {part: height for height, layer in enumerate(LAYERS.split(' < ')) for part in layer.split()}


def part_of(path):
    """The part a file belongs to: a module or a package right below `spml`."""
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported_parts(tree):
    """Yield (line, part) for every import of a part of `spml` in a syntax tree, inside functions too."""
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'line {node.lineno}: a relative import'
            modules = [f'spml.{alias.name}' for alias in node.names] if node.module == 'spml' else [node.module]
        for module in modules:
            root, *rest = module.split('.')
            if root == 'spml' and rest:
                yield node.lineno, rest[0]


def sources():
    # The package's own __init__ shows what the parts offer, so it may name any of them.
    return [path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py']


def test_every_part_has_its_layer():
    assert {part_of(path) for path in sources()} == set(HEIGHT)


@pytest.mark.parametrize('part', HEIGHT)
def test_imports_lead_to_lower_layers_only(part):
    wrong = [f'{path.relative_to(PACKAGE.parent)}:{line}: {part} imports {other}'
             for path in sources() if part_of(path) == part
             for line, other in imported_parts(ast.parse(path.read_text(encoding='utf-8')))
             if other != part and HEIGHT[other] >= HEIGHT[part]]
    assert not wrong, '\n'.join(wrong)


def test_the_scan_sees_every_form_of_import():
    tree = ast.parse('import spml.data.lists\nfrom spml import cli, config as c\ndef f():\n'
                     '    from spml.utils.formats import x\nimport os\nfrom spmlx.data import y\n')
    assert list(imported_parts(tree)) == [(1, 'data'), (2, 'cli'), (2, 'config'), (4, 'utils')]
