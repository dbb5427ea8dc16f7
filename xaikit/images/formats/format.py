r"""Formats of picture files by how their content begins.

    @register_format("NumPy", suffixes=(".npy",), begins=lambda start: start.startswith(b"\x93NUMPY"))
    def read(path: Path, stated: Range | None) -> Image.Image | Stored: ...

    format_of(path).read(path, None)

A reader returns a picture with 8 bits a channel as Pillow's, upright, and any other as `Stored` values. Pillow's own
formats are tried last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from xaikit.foundation.errors import BadInput
from xaikit.images.scaling import Range

_START = 256  # bytes that tell a format
PILLOW = "Pillow"


class Stored(NamedTuple):
    """The values of a picture, and what the file tells of their range.

    Args:
        values: (H, W) or (H, W, C).
        stated: values that become black and white, such as a window; those outside are clipped. None is not told.
        full: lowest and highest value of their type, if nothing is stated; None is the type of the values.
        inverted: whether the lowest value is white.
    """

    values: np.ndarray[Any, Any]
    stated: Range | None = None
    full: Range | None = None
    inverted: bool = False


Read = Callable[[Path, Range | None], Image.Image | Stored]
"""Returns a file's picture; the range is the one that the user states."""


@dataclass(frozen=True)
class Format:
    """A format of picture files.

    Args:
        name: its name.
        suffixes: suffixes of its files in folders, in lower case with their dot.
        begins: whether the first 256 bytes of a file are those of the format.
        read: the reader.
    """

    name: str
    suffixes: frozenset[str]
    begins: Callable[[bytes], bool]
    read: Read


_FORMATS: dict[str, Format] = {}


def register_format(name: str, *, suffixes: Sequence[str], begins: Callable[[bytes], bool]) -> Callable[[Read], Read]:
    """Return a decorator that registers a reader; the arguments are those of `Format`.

    Raises:
        BadInput: the name is taken.
    """

    def register(read: Read) -> Read:
        if name in _FORMATS:
            raise BadInput(f"format {name!r}: expected a new name, got one that exists")
        _FORMATS[name] = Format(name, frozenset(suffixes), begins, read)
        return read

    return register


def formats() -> list[Format]:
    """Return every format, Pillow's last."""
    return sorted(_FORMATS.values(), key=lambda entry: entry.name == PILLOW)


def format_of(path: str | Path) -> Format:
    """Return the format of a file.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as stream:
        start = stream.read(_START)
    return next(entry for entry in formats() if entry.begins(start))


def check_pixels(width: int, height: int) -> None:
    """Check a picture's size before it is decoded; Pillow itself only warns up to twice its limit.

    Raises:
        DecompressionBombError: it has more pixels than Pillow's limit.
    """
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width}x{height}")
