"""Synthetic reference images, used when the user provides none; identical on every machine.

    a bicubic field of 5x5 random colours with one to three discs or squares, each filled with stripes of two colours

The images show colours, edges and textures but no object, so a classifier is seldom confident of any class. Libra-CAM
takes the images with the lowest confidence for the class as its contrast; expected gradients use all as background.

Shapes: pixels (count, C, H, W) float32 in [0, 1].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.identity import generator


def draw_references(count: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return `count` images without an object; image i depends only on the seed and i.

    Args:
        count: number of images.
        channels: C.
        size: (H, W).
        seed: seed of the random numbers.
    """
    images = [_draw(channels, size, generator(seed, "reference", str(index))) for index in range(count)]
    return torch.stack(images) if images else torch.empty(0, channels, *size, device="cpu")


def _draw(channels: int, size: tuple[int, int], stream: torch.Generator) -> Tensor:
    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=stream, dtype=torch.float32, device="cpu")

    field = F.interpolate(uniform(1, channels, 5, 5), size=size, mode="bicubic", align_corners=False)[0]
    rows = torch.linspace(-1, 1, size[0], dtype=torch.float32, device="cpu")[:, None]
    columns = torch.linspace(-1, 1, size[1], dtype=torch.float32, device="cpu")[None, :]
    for _ in range(1 + int(uniform(1).item() * 3)):
        x, y, radius, angle, period, kind = uniform(6).tolist()
        cos, sin = math.cos(math.pi * angle), math.sin(math.pi * angle)
        dx, dy = columns - (1.6 * x - 0.8), rows - (1.6 * y - 0.8)
        across, along = dx * cos + dy * sin, dy * cos - dx * sin
        radius = 0.15 + 0.35 * radius
        inside = (across**2 + along**2 < radius**2) if kind < 0.5 else torch.maximum(across.abs(), along.abs()) < radius
        stripes = (torch.sin(across * math.pi * (4 + 20 * period)) > 0).float()
        colours = uniform(2, channels)[:, :, None, None]
        field = torch.where(inside, colours[0] * stripes + colours[1] * (1 - stripes), field)
    noise = torch.randn(field.shape, generator=stream, dtype=torch.float32, device="cpu")
    return (field + 0.02 * noise).clamp(0, 1)
