"""The order of pixels by map value, and the pixels that a threshold keeps.

    rank_p = position of pixel p in the ascending stable order of the map
    keep_j = rank >= floor(P * j / J)      the level t = j / J removes exactly floor(P * j / J) of P pixels

Shapes: maps (N, H, W); ranks (N, P) with P = H * W.
"""

import torch
from torch import Tensor


def ranks(maps: Tensor) -> Tensor:
    """Return each pixel's rank (N, P) int32 in the ascending order of its map (N, H, W); ties in row-major order."""
    order = maps.flatten(1).argsort(dim=1, stable=True)
    positions = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order)
    return torch.empty_like(positions).scatter_(1, order, positions)


def removed(level: int, levels: int, positions: int) -> int:
    """Return the number of pixels, out of `positions`, that the threshold `level / levels` removes."""
    return positions * level // levels


def keep(order: Tensor, count: int | Tensor, size: tuple[int, int]) -> Tensor:
    """Return a bool mask (N, H, W) that drops the `count` lowest pixels by their ranks (N, P).

    Args:
        order: ranks (N, P) as `ranks` returns them.
        count: one number for all images, or (N,).
        size: (H, W).
    """
    limit = count[:, None] if isinstance(count, Tensor) else count
    return (order >= limit).reshape(len(order), *size)
