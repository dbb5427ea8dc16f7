"""Seeded images and maps."""

import torch
from torch import Tensor


def images(
    count: int = 3,
    channels: int = 3,
    size: int | tuple[int, int] = 8,
    dtype: torch.dtype = torch.float64,
    seed: int = 1,
) -> Tensor:
    """Return seeded pixels (count, channels, size, size) in [0, 1]."""
    height, width = (size, size) if isinstance(size, int) else size
    stream = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=stream, dtype=dtype)


def pictures(count: int, channels: int = 3, size: tuple[int, int] = (9, 7), seed: int = 0) -> Tensor:
    """Return float32 pixels that are not square."""
    return images(count, channels, size, torch.float32, seed)


def heatmaps(count: int, size: tuple[int, int] = (9, 7), seed: int = 1) -> Tensor:
    """Random maps in [0, 1], a third of each zero and some values tied."""
    drawn = torch.rand(count, *size, generator=torch.Generator().manual_seed(seed))
    return (drawn - 1 / 3).clamp(min=0).mul(9).round().div(6)
