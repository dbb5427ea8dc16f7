"""The formats that Pillow reads: JPEG, PNG, TIFF, AVIF and others; 16-bit and float grey with its full depth.

The range of deep grey is, of a TIFF file, its tags SMinSampleValue and SMaxSampleValue, or MaxSampleValue where it is
that of a whole number of bits, or its number of bits; else that of its type, 16 or 31 bits.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

from xaikit.foundation.errors import XaikitWarning
from xaikit.images.formats.format import PILLOW, Stored, check_pixels, register_format
from xaikit.images.scaling import Range

# no format that runs other programs
_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP") + (
    ("AVIF",) if features.check("avif") else ()
)
UNREADABLE = (".heic", ".heif")
"""Suffixes that are refused by name instead of being passed over in folders."""

_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
_BITS, _PHOTOMETRIC, _MOST = 258, 262, 281  # tags of TIFF
_STATED = (340, 341)


@register_format(PILLOW, suffixes=(*_SUFFIXES, *UNREADABLE), begins=lambda start: True)
def read(path: Path, stated: Range | None) -> Image.Image | Stored:
    """Return the picture of a file, the first one if it holds several.

    Warns:
        XaikitWarning: a TIFF file holds several, such as the slices of a volume.
    """
    with Image.open(path, formats=_FORMATS) as image:
        check_pixels(*image.size)
        if image.format == "TIFF" and getattr(image, "is_animated", False):
            text = f"{path}: holds several pictures, the first is read; give another one as an array"
            warnings.warn(text, XaikitWarning, stacklevel=2)
        return of_pillow(image)


def of_pillow(image: Image.Image) -> Image.Image | Stored:
    """Return a picture upright; of integers or floats its values."""
    tags = getattr(image, "tag_v2", {})
    upright = ImageOps.exif_transpose(image)
    if not (image.mode.startswith("I") or image.mode == "F"):
        return upright
    values = np.asarray(upright)
    inverted = tags.get(_PHOTOMETRIC) == 0  # Pillow inverts 8 bits alone
    if image.mode == "F":
        return Stored(values, _stated(tags), None, inverted)
    return Stored(values, _stated(tags), (0.0, _top(values, tags)), inverted)


def _stated(tags: Any) -> Range | None:
    """Return the range that a TIFF file states."""
    low, high = (_number(tags.get(tag)) for tag in _STATED)
    return (low, high) if low is not None and high is not None and low < high else None


def _top(values: np.ndarray[Any, Any], tags: Any) -> float:
    """Return the highest value of the type of integers."""
    bits, most = _number(tags.get(_BITS)), _number(tags.get(_MOST))
    if isinstance(most, int) and most > 0 and most & (most + 1) == 0:
        return float(most)
    if isinstance(bits, int) and 8 < bits < 16:
        return 2.0**bits - 1
    return 65535.0 if values.max(initial=0) <= 65535 else 2.0**31 - 1


def _number(value: Any) -> Any:
    """Return a tag's number, of one channel."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
