"""Short texts and legends in pictures: coloured squares and their names, set like text."""
from spml.visualization.fonts import escaped, font_for

TEXT_HEIGHT = 20
TEXT_COLOUR = (20, 20, 20)
GAP = 6
_SWATCH = 12


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
