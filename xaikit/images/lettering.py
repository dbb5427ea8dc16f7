"""Text on pictures: one line, shortened to its width, in a font that has its letters.

    Pillow's own font, or the system's that lacks fewest letters -> letters without accents -> question marks

Pillow's own font is everywhere but knows little more than ASCII, so names in other scripts take a font of the system.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_MISSING = "\uffff"  # no font has it, so it looks like every letter that a font lacks
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
    """Write one line into the box that starts at `corner` and is `width` pixels wide.

    Args:
        page: is changed.
        corner: (x, y) of the box's upper left.
        text: any text; line breaks become spaces.
        size: of the letters in pixels.
        colour: RGB.
        width: of the box; longer text is shortened.
        align: side of the box.
    """
    text, font = _letters(" ".join(text.split()), size)
    text = shortened(text, width, font)
    x = corner[0] if align == "left" else corner[0] + width - round(font.getlength(text))
    ImageDraw.Draw(page).text((x, corner[1]), text, fill=colour, font=font)


def line_height(size: int) -> int:
    """Return the height of one line in pixels."""
    return round(1.4 * size)


def shortened(text: str, width: float, font: Font) -> str:
    """Return the text, or its beginning with three dots, so that it is at most `width` pixels wide."""
    if font.getlength(text) <= width:
        return text
    fitting = (text[:end].rstrip() + "..." for end in range(len(text) - 1, 0, -1))
    return next((one for one in fitting if font.getlength(one) <= width), "")


def _letters(text: str, size: int) -> tuple[str, Font]:
    """Return the font that lacks fewest of the text's letters, and the text without those it lacks."""
    best, lacking = _own(size), _lacking(_own(size), text)
    for name in _SYSTEM_FONTS:
        if lacking and (font := _system(name, size)) is not None:
            found = _lacking(font, text)
            best, lacking = (font, found) if len(found) < len(lacking) else (best, lacking)
    return "".join(_plain(letter) if letter in lacking else letter for letter in text), best


def _lacking(font: Font, text: str) -> set[str]:
    missing = bytes(font.getmask(_MISSING))
    return {letter for letter in set(text) if not letter.isspace() and bytes(font.getmask(letter)) == missing}


def _plain(letter: str) -> str:
    """Return a letter without its accents, or a question mark."""
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


@lru_cache
def _own(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache
def _system(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
