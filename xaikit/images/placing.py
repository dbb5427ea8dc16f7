"""Maps put back where the network saw them in the original picture.

    Resize.frame(size)   which part of the original the network sees
    place(map, frame)    the map there, and nothing in the rest

Shapes: map (h, w) over what the network saw; result (H, W), the original's size.
"""

from typing import NamedTuple

import numpy as np

from xaikit.images.overlays import Floats


class Frame(NamedTuple):
    """What a network sees of a picture.

    Args:
        original: (H, W) of the picture, upright.
        box: (top, left, bottom, right) of what the network sees, in pixels of the original from its upper left corner.
            A picture smaller than the crop has a box that is larger than the picture.
    """

    original: tuple[int, int]
    box: tuple[float, float, float, float]


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
    rows, row_weights = _interpolation(top, bottom, values.shape[0], height)
    columns, column_weights = _interpolation(left, right, values.shape[1], width)
    placed = np.full((height, width), outside, np.float64)
    placed[rows, columns] = row_weights @ values @ column_weights.T
    return placed


def _interpolation(start: float, stop: float, cells: int, length: int) -> tuple[slice, Floats]:
    """Return the pixels of an axis inside [start, stop), and the weight (pixels, cells) of each cell for each pixel."""
    centres = np.arange(length) + 0.5
    inside = np.flatnonzero((centres >= start) & (centres < stop))
    pixels_per_cell = (stop - start) / cells
    position = ((centres[inside] - start) / pixels_per_cell - 0.5).clip(0, cells - 1)
    reach = max(1.0, 1.0 / pixels_per_cell)
    weights = (1.0 - np.abs(position[:, None] - np.arange(cells)) / reach).clip(0.0)
    first = int(inside[0]) if len(inside) else 0
    return slice(first, first + len(inside)), weights / weights.sum(1, keepdims=True)
