"""Results are known by contents, not dates; a kill costs a result and never vouches for a wrong one."""
import json
import os

import pytest

from spml import recipe
from spml.errors import SpmlError
from spml.recipe import Answer, FileDigests, Recipe, ResultFolder, judge


def touch(path, moment):
    os.utime(path, (moment, moment))


def test_a_digest_is_of_the_content(tmp_path):
    digests, file, copy = FileDigests(), tmp_path / 'a', tmp_path / 'b'
    file.write_text('one')
    copy.write_text('one')
    first = digests(file)
    assert digests(copy) == first
    touch(file, 0)
    assert digests(file) == first
    status = file.stat()
    file.write_text('two')
    touch(file, status.st_mtime)  # same size, same date
    assert digests(file) != first
    file.unlink()
    assert digests(file) == ''


def test_digests_outlive_a_start_but_for_files_just_written(tmp_path, monkeypatch):
    file, cache = tmp_path / 'a', tmp_path / 'cache'
    file.write_text('one')
    reads = []
    monkeypatch.setattr(recipe, '_content', lambda path: reads.append(path) or open(path).read())  # noqa: SIM115

    def digest(seconds_later):
        now = file.stat().st_ctime_ns + int(seconds_later * 1e9)
        monkeypatch.setattr(recipe.time, 'time_ns', lambda: now)
        digests, before = FileDigests(cache), len(reads)
        found = digests(file), len(reads) - before
        digests.save()
        return found

    assert digest(1) == ('one', 1)
    assert digest(3) == ('one', 1)
    assert digest(3) == ('one', 0)
    file.write_text('two')
    assert digest(3) == ('two', 1)
    for damaged in ('{', '[]', '{"a": 1}', '{"a": [1, 2]}'):
        cache.write_text(damaged)
        assert digest(3) == ('two', 1)


def test_a_folder_is_its_names_and_contents(tmp_path):
    digests, folder = FileDigests(), tmp_path / 'folder'
    (folder / 'below').mkdir(parents=True)
    (folder / 'below' / 'a').write_text('one')
    seen = [digests(folder)]
    (folder / '.hidden').write_text('x')
    assert digests(folder) == seen[0]
    for change in (lambda: (folder / 'b').write_text('one'), lambda: (folder / 'b').rename(folder / 'c'),
                   lambda: (folder / 'below' / 'a').write_text('two'), lambda: (folder / 'c').unlink()):
        change()
        assert digests(folder) not in seen
        seen.append(digests(folder))


def test_the_difference_is_named():
    before = Recipe({'a': (1, 2), 'long': 'x' * 200}, {'x.png': '1', 'y.png': '2', 'z.png': '3'})
    assert Recipe.from_json(json.loads(json.dumps(before.to_json()))) == before
    assert before.difference(before) == ''
    assert Recipe({**before.values, 'a': [1, 3]}, before.files).difference(before) == 'a: [1, 2] -> [1, 3]'
    assert Recipe({**before.values, 'b': 1}, before.files).difference(before) == 'b: None -> 1'
    assert len(Recipe({**before.values, 'long': 'y' * 200}, before.files).difference(before)) < 200
    for files, words in (({'x.png': '5', 'y.png': '2'}, 'x.png and 1 more: other content'),
                         ({'x.png': '1', 'y.png': '', 'z.png': '3'}, 'y.png: no longer there'),
                         ({**before.files, 'n.png': '7'}, 'n.png: not there before')):
        changed = Recipe(before.values, files)
        assert changed.difference(before) == words
        assert changed.digest != before.digest
    for damaged in (None, [], {'values': {}}, {'values': [], 'files': {}}):
        assert Recipe.from_json(damaged) is None


@pytest.mark.parametrize(('before', 'complete', 'overwrite', 'costly', 'answer'), [
    (None, False, False, True, Answer.MAKE), (1, True, False, False, Answer.STANDS),
    (1, False, False, True, Answer.GOES_ON), (1, True, True, True, Answer.STANDS), (2, True, False, False, Answer.MAKE),
    (2, True, False, True, Answer.REFUSE), (2, True, True, True, Answer.MAKE), (2, False, False, True, Answer.REFUSE)])
def test_one_answer(before, complete, overwrite, costly, answer):
    recipe = None if before is None else Recipe({'n': before})
    found, difference = judge(Recipe({'n': 1}), recipe, complete, overwrite, costly)
    assert found is answer
    assert difference == ('n: 2 -> 1' if before == 2 else '')


class Place:
    """Items `a`, `b`, `c`, each made from a file, in a folder of results."""

    def __init__(self, root):
        self.root = root
        for name in 'abc':
            self.source(name).write_text(name)

    def source(self, name):
        return self.root / f'{name}.in'

    def result(self, name):
        return self.root / 'out' / f'{name}.out'

    def folder(self, **values):
        return ResultFolder(self.root / 'out', Recipe(values), lambda name: [self.result(name)],
                            lambda name: [self.source(name)])

    def make(self, names, only=None, **values):
        """Make what remains (of it `only` some, as a kill would leave it); return what remained."""
        folder = self.folder(**values)
        remaining, _ = folder.remaining(names)
        for name in remaining if only is None else only:
            self.result(name).write_text(self.source(name).read_text())
            folder.note(name)
        return remaining


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_another_recipe_makes_all_again_or_is_refused(place):
    place.make('abc', option=1)
    with pytest.raises(SpmlError, match='option: 1 -> 2'):
        place.folder(option=2).remaining('abc', refuse=True)
    assert place.make('abc', option=1) == []
    assert place.folder(option=2).remaining('abc', overwrite=True, refuse=True)[0] == ['a', 'b', 'c']
    assert place.folder(option=2).remaining('abc') == (['a', 'b', 'c'], '')
    assert place.make('abc', option=3) == ['a', 'b', 'c']
    assert place.folder(option=3).remaining('ab', overwrite=True)[0] == ['a', 'b']


def test_a_kill_while_a_result_is_made_again_never_vouches_for_it(place):
    place.make('abc')
    place.source('a').write_text('other')
    folder = place.folder()
    assert folder.remaining('abc')[0] == ['a']
    place.result('a').write_text('other')  # killed before it was noted; and the source comes back
    place.source('a').write_text('a')
    assert place.make('abc') == ['a']
    assert place.result('a').read_text() == 'a'


def test_garbled_notes_cost_a_result_each(place):
    place.make('abc')
    path = place.root / 'out' / 'made_from.jsonl'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0], '{"name": "b", "made', '[]', lines[2], '{"name": 1, "made_from": "x"}']))
    assert place.make('abc') == ['b']
    (place.root / 'out' / 'made_with.json').write_text('{')
    assert place.make('abc') == ['a', 'b', 'c']


def test_reading_for_long_shows_a_bar_and_for_less_nothing(tmp_path, monkeypatch, capfd):
    for number in range(4):
        (tmp_path / f'{number}.txt').write_text('text')
    digest = FileDigests()(tmp_path)
    assert capfd.readouterr().err == ''
    monkeypatch.setattr('spml.recipe._BAR_DELAY', 0)
    assert FileDigests()(tmp_path) == digest
    assert '4 [' in capfd.readouterr().err.partition('reading inputs: ')[2]
