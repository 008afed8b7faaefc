"""Text and legends in pictures drawn with PIL."""
from PIL import ImageFont

GAP = 6
TEXT_HEIGHT = 20
PAPER = (255, 255, 255)
_SWATCH = 12
_INK = (20, 20, 20)


class Legend:
    """Coloured squares with their names, set in lines like text.

    Args:
        entries: (colour, name) pairs, colours as RGB tuples.
        width: pixels, at which lines break.
    """

    def __init__(self, entries, width):
        font, x, y = _font(), GAP, 0
        self._placed = []
        for colour, name in entries:
            needed = _SWATCH + 5 + round(font.getlength(_printable(name))) + 14
            if x > GAP and x + needed > width:
                x, y = GAP, y + TEXT_HEIGHT
            self._placed.append((x, y, colour, name))
            x += needed
        self.height = y + TEXT_HEIGHT

    def draw(self, draw, top):
        """Draw it with an ImageDraw, `top` pixels below the upper edge."""
        for x, y, colour, name in self._placed:
            draw.rectangle((x, top + y + 3, x + _SWATCH, top + y + 3 + _SWATCH), fill=colour, outline=_INK)
            write_line(draw, (x + _SWATCH + 5, top + y + 2), name)


def write_line(draw, position, text, width=None):
    """Draw one line of text, shortened at its end to `width` pixels."""
    font, text = _font(), _printable(text)
    if width is not None and font.getlength(text) > width:
        while text and font.getlength(text + '...') > width:
            text = text[:-1]
        text += '...'
    draw.text(position, text, fill=_INK, font=font)


def _printable(text):
    # Older fonts of PIL hold Latin letters only and fail on others.
    return text.encode('ascii', 'replace').decode()


def _font():
    try:
        return ImageFont.load_default(size=13)
    except (TypeError, ImportError):  # Pillow before 10.1, or built without FreeType: one size
        return ImageFont.load_default()
