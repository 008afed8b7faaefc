"""A legend in a picture drawn with PIL: coloured squares and their names, set in lines like text."""
from spml.visualization.text import TEXT_COLOUR, TEXT_HEIGHT, text_width, write_line

GAP = 6
_SWATCH = 12


class Legend:
    """Where each entry, a pair of an RGB tuple and a name, goes; lines break at `width` pixels."""

    def __init__(self, entries, width):
        x, y = GAP, 0
        self._placed = []
        for colour, name in entries:
            needed = _SWATCH + 5 + text_width(name) + 14
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
