"""Default features for perturbation methods of other packages: the parts that are removed from an image or a layer.

    windows      (C, p, p) with stride (C, q, q), p a seventh of the short side and q half of it
    squares      a count x count grid over the image, numbered row by row
    positions    the positions of a layer, numbered row by row

Shapes: masks (1, 1, H, W) int64; entries with the same number form one feature.
"""

import torch
from torch import Tensor

from xaikit.images.cells import cell_numbers


def windows(channels: int, size: tuple[int, int]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the window (C, p, p) and stride (C, q, q) for images of `size` = (H, W)."""
    side = max(1, round(min(size) / 7))
    step = max(1, side // 2)
    return (channels, side, side), (channels, step, step)


def squares(size: tuple[int, int], count: int) -> Tensor:
    """Return the numbers (1, 1, H, W) of count x count squares; fewer if the image has fewer pixels per side."""
    return cell_numbers((min(count, size[0]), min(count, size[1])), size)[None, None]


def positions(down: int, across: int) -> Tensor:
    """Return the numbers (1, 1, h, w) of a layer's positions."""
    return torch.arange(down * across).reshape(1, 1, down, across)
