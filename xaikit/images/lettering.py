"""Text on pictures: one line, shortened to fit, in a font that contains its letters.

    Pillow's own font, or the system font that lacks the fewest letters -> letters without accents -> question marks

Pillow's own font is always available but has little more than ASCII, so names in other scripts need a system font.
"""

import unicodedata
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_MISSING = "\uffff"  # in no font, so it is drawn like every letter that a font lacks
_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "YuGothR.ttc",
)


def draw_text(
    page: Image.Image,
    corner: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    width: int,
    align: Literal["left", "right"] = "left",
) -> None:
    """Draw one line of text into the box that starts at `corner` and is `width` pixels wide.

    Args:
        page: image to draw on, in place.
        corner: (x, y) of the upper left corner of the box.
        text: any text; line breaks become spaces.
        size: font size in pixels.
        colour: RGB.
        width: width of the box in pixels; longer text is shortened.
        align: side of the box at which the text is aligned.
    """
    text, font = _with_font(" ".join(text.split()), size)
    text = shortened(text, width, font)
    x = corner[0] if align == "left" else corner[0] + width - round(font.getlength(text))
    ImageDraw.Draw(page).text((x, corner[1]), text, fill=colour, font=font)


def line_height(size: int) -> int:
    """Return the height of one line in pixels."""
    return round(1.4 * size)


def shortened(text: str, width: float, font: Font) -> str:
    """Return the text, cut and followed by three dots if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    candidates = (text[:end].rstrip() + "..." for end in range(len(text) - 1, 0, -1))
    return next((candidate for candidate in candidates if font.getlength(candidate) <= width), "")


def _with_font(text: str, size: int) -> tuple[str, Font]:
    """Return the font that lacks the fewest letters of the text, and the text with these letters replaced."""
    best = _default_font(size)
    missing = _missing_letters(best, text)
    for name in _SYSTEM_FONTS:
        if missing and (font := _system_font(name, size)) is not None:
            still_missing = _missing_letters(font, text)
            best, missing = (font, still_missing) if len(still_missing) < len(missing) else (best, missing)
    return "".join(_ascii(letter) if letter in missing else letter for letter in text), best


def _missing_letters(font: Font, text: str) -> set[str]:
    blank = bytes(font.getmask(_MISSING))
    return {letter for letter in set(text) if not letter.isspace() and bytes(font.getmask(letter)) == blank}


def _ascii(letter: str) -> str:
    """Return a letter without its accents, or a question mark."""
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


@lru_cache
def _default_font(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
