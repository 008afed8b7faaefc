"""Text in pictures: as it is written, or as what says that it is not."""
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageDraw

from spml.visualization import legend as fonts
from spml.visualization.legend import escaped, font_for, shown_names
from spml.visualization.pictures import overlay

CYRILLIC, NOWHERE = 'кошка', '\ue123'  # the second is for private use: no font has to have it


@pytest.fixture(autouse=True)
def _no_memory():
    for function in (font_for, fonts._machines):
        function.cache_clear()
    yield
    for function in (font_for, fonts._machines):
        function.cache_clear()


def fonts_with(letters):
    codes = ' '.join(f'{ord(letter):x}' for letter in letters)
    try:
        return subprocess.run(['fc-list', f':charset={codes}'], capture_output=True, text=True, check=True).stdout
    except OSError:
        return ''


def drawn(text):
    picture = Image.new('L', (300, 30))
    ImageDraw.Draw(picture).text((5, 5), text, fill=255, font=font_for(text))
    return np.asarray(picture)


@pytest.mark.skipif(not fonts_with(CYRILLIC), reason='no font of this machine has Cyrillic letters')
def test_another_script_is_drawn_as_it_is_written():
    assert shown_names(['cat', CYRILLIC, 'dog']) == ['cat', CYRILLIC, 'dog']
    letters = [drawn(letter) for letter in sorted(set(CYRILLIC))]
    for number, one in enumerate(letters):
        assert one.any()
        assert not any((one == other).all() for other in letters[:number])  # no box that stands for all of them


@pytest.mark.parametrize('command', ['fc-list', 'no-such-program'])
def test_a_class_whose_letters_no_font_has_is_shown_by_its_number(monkeypatch, command):
    run = subprocess.run
    monkeypatch.setattr(subprocess, 'run', lambda words, **options: run([command, *words[1:]], **options))
    names = ['sky', f'a{NOWHERE}', 'cat']
    assert shown_names(names) == ['sky', 'class 1', 'cat']
    image, label = np.zeros((9, 400, 3), np.uint8), np.ones((9, 400), np.uint8)
    np.testing.assert_array_equal(overlay(image, label, names), overlay(image, label, ['sky', 'class 1', 'cat']))


def test_a_font_that_lies_about_its_letters_is_not_used(monkeypatch, tmp_path):
    (tmp_path / 'a.ttf').write_bytes(b'junk')
    others = ''.join(line.partition(':')[0] + '\n' for line in fonts_with('a').splitlines()[:3])
    listed = f'{tmp_path / "a.ttf"}\n{tmp_path / "absent.ttf"}\n{others}'
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: subprocess.CompletedProcess([], 0, listed))
    assert font_for(NOWHERE) is None


def test_english_needs_no_program(monkeypatch):
    monkeypatch.setattr(subprocess, 'run', None)
    assert drawn('cat 1.5%').any()


def test_letters_as_codes():
    assert escaped('cat 猫 é') == 'cat \\u732b \\xe9'
