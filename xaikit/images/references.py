"""Reference images for whoever has none: drawn here, the same on every machine.

    a bicubic field of 5x5 random colours, on it one to three flat shapes and a stripe pattern in one of them

They show colours, edges and textures but no object, so a classifier is seldom sure of any class on them. Libra-CAM
takes those with the lowest confidence for the class as its contrast; expected gradients take all as their background.

Shapes: pixels (count, C, H, W) float32 in [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.identity import generator


def draw_references(count: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return `count` pictures without an object; picture i depends on the seed and i alone.

    Args:
        count: number of pictures.
        channels: C.
        size: (H, W).
        seed: of the drawing.
    """
    drawn = [_draw(channels, size, generator(seed, "reference", str(place))) for place in range(count)]
    return torch.stack(drawn) if drawn else torch.empty(0, channels, *size, device="cpu")


def _draw(channels: int, size: tuple[int, int], stream: torch.Generator) -> Tensor:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=stream, device="cpu")

    field = F.interpolate(uniform(1, channels, 5, 5), size=size, mode="bicubic", align_corners=False)[0]
    rows = torch.linspace(-1, 1, size[0], device="cpu")[:, None]
    columns = torch.linspace(-1, 1, size[1], device="cpu")[None, :]
    for _ in range(1 + int(uniform(1).item() * 3)):
        x, y, radius, angle, period, kind = uniform(6).tolist()
        across = (columns - (1.6 * x - 0.8)) * math.cos(math.pi * angle) + (rows - (1.6 * y - 0.8)) * math.sin(
            math.pi * angle
        )
        along = (rows - (1.6 * y - 0.8)) * math.cos(math.pi * angle) - (columns - (1.6 * x - 0.8)) * math.sin(
            math.pi * angle
        )
        radius = 0.15 + 0.35 * radius
        inside = (across**2 + along**2 < radius**2) if kind < 0.5 else torch.maximum(across.abs(), along.abs()) < radius
        stripes = (torch.sin(across * math.pi * (4 + 20 * period)) > 0).float()
        colours = uniform(2, channels)[:, :, None, None]
        field = torch.where(inside, colours[0] * stripes + colours[1] * (1 - stripes), field)
    noise = torch.randn(field.shape, generator=stream, device="cpu")
    return (field + 0.02 * noise).clamp(0, 1)
