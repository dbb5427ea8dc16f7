"""Maps put back where the network saw them in the original picture.

    Resize.frame(size)     which part of the original the network sees
    place(map, frame)      the map there, and nothing in the rest
    mark(picture, frame)   the picture with the rest dimmed and a line round the part

Shapes: map (h, w) over what the network saw; result (H, W), the original's size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xaikit.images.overlays import Floats, Picture

_DIMMED = 0.35  # brightness of what the network did not see
_LINE = 300  # length of a side for each pixel of the line's width


class Frame(NamedTuple):
    """What a network sees of a picture.

    Args:
        original: (H, W) of the picture, upright.
        box: (top, left, bottom, right) of what the network sees, in pixels of the original from its upper left corner.
            A picture smaller than the crop has a box that is larger than the picture.
    """

    original: tuple[int, int]
    box: tuple[float, float, float, float]

    def scaled(self, size: tuple[int, int]) -> "Frame":
        """Return the frame of the picture shown at another size (H, W)."""
        (height, width), (rows, columns), (top, left, bottom, right) = self.original, size, self.box
        # the product first: the whole side is then the whole new side, without rounding
        return Frame(
            size, (top * rows / height, left * columns / width, bottom * rows / height, right * columns / width)
        )

    @property
    def seen(self) -> float:
        """Share of the picture that the network saw."""
        return self._common() / (self.original[0] * self.original[1])

    @property
    def fill(self) -> float:
        """Share of what the network saw that lies outside the picture."""
        top, left, bottom, right = self.box
        return 1.0 - self._common() / ((bottom - top) * (right - left))

    def _common(self) -> float:
        (height, width), (top, left, bottom, right) = self
        return (min(bottom, height) - max(top, 0.0)) * (min(right, width) - max(left, 0.0))


def frame_notes(frames: Sequence[Frame]) -> list[str]:
    """Return what a figure of pictures says about dimmed parts and fill, in one line each."""
    lines = []
    if cropped := [frame.seen for frame in frames if frame.seen < 1]:
        lines.append(f"framed: what the network saw, {_shares(cropped)} of the picture; it did not see the dimmed rest")
    if filled := [frame.fill for frame in frames if frame.fill > 0]:
        lines.append(f"not shown: the fill around the picture, {_shares(filled)} of what the network saw")
    return lines


def _shares(shares: Sequence[float]) -> str:
    low, high = (f"{100 * end:.0f}" for end in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def place(values: Floats, frame: Frame, outside: float = 0.0) -> Floats:
    """Return a map at the original's size, where the network saw it.

    Pixels between the centres of the map's cells are interpolated linearly; where the map is finer than the original,
    cells are averaged. Pixels whose centre lies outside the box have the value `outside`.

    Args:
        values: (h, w) over the whole of what the network saw, of any resolution.
        frame: the original's size and the box.
        outside: value of pixels that the network did not see; NaN leaves them undrawn.
    """
    (height, width), (top, left, bottom, right) = frame
    rows, columns = _inside(frame)
    row_weights = _interpolation(rows, top, bottom, values.shape[0])
    column_weights = _interpolation(columns, left, right, values.shape[1])
    placed = np.full((height, width), outside, np.float64)
    placed[rows, columns] = row_weights @ values @ column_weights.T
    return placed


def mark(picture: Picture, frame: Frame) -> Picture:
    """Return a picture (H, W, 3) with what the network did not see dimmed, and a white line round what it saw."""
    if frame.seen == 1:
        return picture
    width = 1 + max(frame.original) // _LINE
    line = []
    for side, end in zip(_inside(frame), frame.original, strict=True):
        start, stop = max(0, side.start - width), min(end, side.stop + width)
        line.append((slice(start, stop), slice(start + width, max(start, stop - width))))
    (rows, inner_rows), (columns, inner_columns) = line
    marked: Picture = np.rint(_DIMMED * picture).astype(np.uint8)
    marked[rows, columns] = 255
    marked[inner_rows, inner_columns] = picture[inner_rows, inner_columns]
    return marked


def _inside(frame: Frame) -> tuple[slice, slice]:
    """Return the rows and columns of the pixels whose centres lie inside the box."""
    (height, width), (top, left, bottom, right) = frame
    return _pixels(top, bottom, height), _pixels(left, right, width)


def _pixels(start: float, stop: float, length: int) -> slice:
    first, end = (min(max(0, math.ceil(side - 0.5)), length) for side in (start, stop))
    return slice(first, max(first, end))


def _interpolation(pixels: slice, start: float, stop: float, cells: int) -> Floats:
    """Return the weight (pixels, cells) of each cell of [start, stop) for each pixel of an axis."""
    centres = np.arange(pixels.start, pixels.stop) + 0.5
    pixels_per_cell = (stop - start) / cells
    position = ((centres - start) / pixels_per_cell - 0.5).clip(0, cells - 1)
    reach = max(1.0, 1.0 / pixels_per_cell)
    weights = (1.0 - np.abs(position[:, None] - np.arange(cells)) / reach).clip(0.0)
    weights /= weights.sum(1, keepdims=True)
    return weights
