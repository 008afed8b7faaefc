"""Short texts, in Pillow's own font, and legends in pictures: coloured squares and their names, set like text."""
from PIL import ImageFont

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
            needed = _SWATCH + 5 + round(_font().getlength(_printable(name))) + 14
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
    font, text = _font(), _printable(text)
    if width is not None and font.getlength(text) > width:
        while text and font.getlength(text + '...') > width:
            text = text[:-1]
        text += '...'
    draw.text(position, text, fill=TEXT_COLOUR, font=font)


def _printable(text):
    # Older fonts of PIL hold Latin letters only and fail on others.
    return text.encode('ascii', 'replace').decode()


def _font():
    try:
        return ImageFont.load_default(size=13)
    except (TypeError, ImportError):  # Pillow before 10.1, or built without FreeType: one size
        return ImageFont.load_default()
