"""Short texts and legends in pictures: coloured squares and their names, set like text.

English is set in Pillow's own font, anything else in one of the machine's that has the letters. Where no font has them,
a text is not drawn as something that it is not: `shown_names` gives the numbers of such classes, and `escaped` writes
the letters as their codes.
"""
import contextlib
import functools
import re
import subprocess

from PIL import ImageFont

TEXT_HEIGHT = 20
TEXT_COLOUR = (20, 20, 20)
GAP = 6
_SWATCH = 12
_SIZE = 13
# Of the fonts that have all letters, the plainest.
_FANCY = re.compile(r'bold|italic|oblique|light|thin|black|mono|condensed|serif', re.IGNORECASE)
# No font has this code point, so it is drawn as what a font shows for letters that it lacks.
_NO_LETTER = '\U0010fffe'


class Legend:
    """Where each entry, a pair of an RGB tuple and a name, goes; lines break at `width` pixels."""

    def __init__(self, entries, width):
        x, y = GAP, 0
        self._placed = []
        for colour, name in entries:
            text, font = _drawable(name)
            needed = _SWATCH + 5 + round(font.getlength(text)) + 14
            if x > GAP and x + needed > width:
                x, y = GAP, y + TEXT_HEIGHT
            self._placed.append((x, y, colour, name))
            x += needed
        self.height = y + TEXT_HEIGHT

    def draw(self, draw, top):
        """Draw it with an ImageDraw, `top` pixels below the upper edge."""
        for x, y, colour, name in self._placed:
            draw.rectangle((x, top + y + 3, x + _SWATCH, top + y + 3 + _SWATCH), fill=colour, outline=TEXT_COLOUR)
            write_line(draw, (x + _SWATCH + 5, top + y + 2), name)


def write_line(draw, position, text, width=None):
    """Draw one line of text at (x, y), shortened at its end to `width` pixels."""
    text, font = _drawable(text)
    if width is not None and font.getlength(text) > width:
        while text and font.getlength(text + '...') > width:
            text = text[:-1]
        text += '...'
    draw.text(position, text, fill=TEXT_COLOUR, font=font)


def _drawable(text):
    """Return a text and a font that has its letters: the text itself, or with codes for letters that no font has."""
    font = font_for(text)
    return (text, font) if font else (escaped(text), font_for(''))


@functools.lru_cache(maxsize=4096)
def font_for(text):
    """Return a font that has every letter of a text, or None."""
    if text.isascii():
        return _own()
    return _machines(''.join(sorted({letter for letter in text if not letter.isspace()})))


def shown_names(names):
    """Return names of classes as pictures can show them: `class 3` in place of one that no font here has."""
    return [name if font_for(name) else f'class {number}' for number, name in enumerate(names)]


def escaped(text):
    """Return a text with its letters beyond English as codes, as Python writes them."""
    return text.encode('ascii', 'backslashreplace').decode()


@functools.cache
def _own():
    try:
        return ImageFont.load_default(size=_SIZE)
    except (TypeError, ImportError):  # Pillow before 10.1, or built without FreeType: one size
        return ImageFont.load_default()


@functools.cache
def _machines(letters):
    """Return the plainest font of this machine that has all letters, or None."""
    codes = ' '.join(f'{ord(letter):x}' for letter in letters)
    found = ''
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # no fontconfig
        found = subprocess.run(['fc-list', '--format', '%{file}\n', f':charset={codes}:scalable=true'],  # noqa: S603, S607
                               capture_output=True, text=True, check=True, timeout=60).stdout
    for path in sorted(found.splitlines(), key=lambda path: (len(_FANCY.findall(path)), path)):
        with contextlib.suppress(OSError, ImportError):
            font = ImageFont.truetype(path, _SIZE)
            if all(_has(font, letter) for letter in letters):
                return font
    return None


def _has(font, letter):
    """Whether a font draws a letter, and not the box that stands for one it lacks; marks may need no ink alone."""
    drawn, missing = (font.getmask(text) for text in (letter, _NO_LETTER))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
