"""Writing short texts into pictures with Pillow's own font."""
from PIL import ImageFont

TEXT_HEIGHT = 20
TEXT_COLOUR = (20, 20, 20)


def text_width(text):
    """Return the width of one line of text in pixels."""
    return round(_font().getlength(_printable(text)))


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
