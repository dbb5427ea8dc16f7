"""The cells of a square grid over the image, which real or binary masks switch together.

    cell(u) = floor(row * grid / H) * grid + floor(column * grid / W)

Shapes: numbers (H, W) int64 from 0 to grid^2 - 1; values or masks of cells (m, grid^2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput


def cell_numbers(grid: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return the cell of each pixel, (H, W).

    Raises:
        BadInput: more cells a side than pixels.
    """
    if grid > min(size):
        raise BadInput(f"grid: expected at most the image's {min(size)} pixels a side, got {grid}; lower it")
    rows, columns = (torch.arange(side, device=device) * grid // side for side in size)
    return rows[:, None] * grid + columns
