"""The cells of a grid over the image, numbered row by row.

    cell(row, column) = floor(row * down / H) * across + floor(column * across / W)

Shapes: numbers (H, W) int64 from 0 to down * across - 1.
"""

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput


def cell_numbers(cells: tuple[int, int], size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Return the cell of each pixel, (H, W).

    Args:
        cells: number of cells down and across.
        size: (H, W) of the image.
        device: device of the result.

    Raises:
        BadInput: more cells than pixels along a side.
    """
    if cells[0] > size[0] or cells[1] > size[1]:
        raise BadInput(f"grid: expected at most the image's {min(size)} pixels a side, got {max(cells)}")
    rows, columns = (torch.arange(side, device=device) * count // side for side, count in zip(size, cells, strict=True))
    return rows[:, None] * cells[1] + columns
