"""Texture in shape: images whose evidence is known to the pixel, because only the object's texture gives the class.

    background   5x5 random colours, bicubic to 64x64, plus N(0, 0.02)
    distractors  1 to 3 discs, squares or triangles, radius 5 to 10, one flat colour each
    object       a disc, square or triangle, radius 9 to 15, filled with the 4x4 tile of its class in two colours
    image        = object over distractors over background; no antialiasing, so the masks are exact

Background, distractors and object of image i have separate random streams, keyed by (seed, i, name), so that
one factor can be redrawn while the others stay. Image i of a seed does not depend on the other images drawn.

Shapes: pixels (N, 3, 64, 64) float32 in [0, 1]; labels (N,) int64, i mod 6 for image i; masks (N, 64, 64) bool.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator

SIZE = 64
TRAINING_START = 1_000_000
"""Index of the first training image of the shipped recipes; images with smaller indices are unseen, for any seed."""

_TILES = {
    "horizontal stripes": ("####", "####", "....", "...."),
    "vertical stripes": ("##..", "##..", "##..", "##.."),
    "rising diagonals": ("##..", "#..#", "..##", ".##."),
    "falling diagonals": ("##..", ".##.", "..##", "#..#"),
    "checkers": ("##..", "##..", "..##", "..##"),
    "dots": ("##..", "##..", "....", "...."),
}
CLASSES = tuple(_TILES)
_PATTERNS = torch.tensor([[[cell == "#" for cell in row] for row in tile] for tile in _TILES.values()])

_BLOCK = 256
_DISTRACTORS = 3
_MIN_CONTRAST, _MAX_CONTRAST = 0.3, 0.8
_BOUND = torch.tensor([1.0, math.sqrt(2), 1.4])  # circumradius / radius of disc, square and triangle


@dataclass(frozen=True)
class Scene:
    """A batch of synthetic images with their labels and masks.

    Attributes:
        pixels: (N, 3, 64, 64) in [0, 1].
        labels: (N,) index into `CLASSES`; -1 for an image without an object.
        objects: (N, 64, 64) bool, True on the pixels of the object.
        distractors: (N, 64, 64) bool, True on visible distractor pixels, never on the object.
    """

    pixels: Tensor
    labels: Tensor
    objects: Tensor
    distractors: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def draw(
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    content: Literal["object", "empty"] = "object",
    background_seed: int | None = None,
    distractor_seed: int | None = None,
    class_shift: int = 0,
) -> Scene:
    """Return the images `start` to `start + count - 1` of a seed.

    Args:
        count: number of images.
        seed: seed of the sequence of images.
        start: index of the first image.
        content: "object" for complete images, "empty" to leave out the object only.
        background_seed: seed of the background; None means `seed`.
        distractor_seed: seed of the distractors; None means `seed`.
        class_shift: number added to each class index, so that objects have the texture and label of another class.

    Raises:
        BadInput: `count` is below one or `start` is negative.
    """
    if count < 1 or start < 0:
        raise BadInput(f"synthetic images: expected count >= 1 and start >= 0, got count {count}, start {start}")
    blocks = [
        _render(
            range(first, min(first + _BLOCK, start + count)),
            object_seed=seed,
            background_seed=seed if background_seed is None else background_seed,
            distractor_seed=seed if distractor_seed is None else distractor_seed,
            class_shift=class_shift,
            with_object=content == "object",
        )
        for first in range(start, start + count, _BLOCK)
    ]
    return Scene(*(torch.cat([getattr(block, field.name) for block in blocks]) for field in fields(Scene)))


def _render(
    indices: range,
    *,
    object_seed: int,
    background_seed: int,
    distractor_seed: int,
    class_shift: int,
    with_object: bool,
) -> Scene:
    pixels = _background(indices, background_seed)
    pixels, distractors = _add_distractors(pixels, indices, distractor_seed)
    if not with_object:
        absent = torch.zeros_like(distractors)
        return Scene(pixels, torch.full((len(indices),), -1), absent, distractors)
    labels = (torch.tensor(indices) + class_shift) % len(CLASSES)
    pixels, objects = _add_object(pixels, labels, indices, object_seed)
    return Scene(pixels, labels, objects, distractors & ~objects)


def _background(indices: range, seed: int) -> Tensor:
    streams = [generator(seed, str(index), "background") for index in indices]
    colours = torch.stack([torch.rand(3, 5, 5, generator=stream, dtype=torch.float32) for stream in streams])
    noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=stream, dtype=torch.float32) for stream in streams])
    smooth = F.interpolate(colours, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    return (smooth + 0.02 * noise).clamp(0, 1)


def _add_distractors(pixels: Tensor, indices: range, seed: int) -> tuple[Tensor, Tensor]:
    draws = _uniforms(indices, seed, "distractors", 1 + _DISTRACTORS * 8)
    count = 1 + _choice(draws[:, 0], _DISTRACTORS)
    masks = torch.zeros(len(indices), SIZE, SIZE, dtype=torch.bool)
    for index, row in enumerate(torch.split(draws[:, 1:], 8, dim=1)):
        mask = _silhouette(row[:, :5], 5, 10) & (index < count)[:, None, None]
        pixels = torch.where(mask[:, None], row[:, 5:, None, None], pixels)
        masks |= mask
    return pixels, masks


def _add_object(pixels: Tensor, labels: Tensor, indices: range, seed: int) -> tuple[Tensor, Tensor]:
    draws = _uniforms(indices, seed, "object", 14)
    masks = _silhouette(draws[:, :5], 9, 15)
    first, second = _contrasting(draws[:, 5:8], draws[:, 8:11], draws[:, 11])
    row = (torch.arange(SIZE) + _choice(draws[:, 12], 4)[:, None]) % 4
    column = (torch.arange(SIZE) + _choice(draws[:, 13], 4)[:, None]) % 4
    pattern = _PATTERNS[labels[:, None, None], row[:, :, None], column[:, None, :]]
    texture = torch.where(pattern[:, None], first[:, :, None, None], second[:, :, None, None])
    return torch.where(masks[:, None], texture, pixels), masks


def _silhouette(draws: Tensor, smallest: float, largest: float) -> Tensor:
    """Return masks (N, 64, 64) of shapes inside the image, from draws (N, 5): shape, radius, rotation, x and y."""
    kind = _choice(draws[:, 0], 3)
    radius = smallest + (largest - smallest) * draws[:, 1]
    margin = radius * _BOUND[kind]
    centre = margin[:, None] + (SIZE - 2 * margin[:, None]) * draws[:, 3:5]
    axis = torch.arange(SIZE) + 0.5
    x = (axis - centre[:, :1])[:, None, :]
    y = (axis - centre[:, 1:])[:, :, None]
    angle = 2 * math.pi * draws[:, 2, None, None]
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    half = math.sqrt(3) / 2
    distances = torch.stack(
        [
            (u.square() + v.square()).sqrt(),
            torch.maximum(u.abs(), v.abs()),
            torch.stack([v, half * u - v / 2, -half * u - v / 2]).amax(0) / 0.7,
        ]
    )
    return distances[kind, torch.arange(len(kind))] <= radius[:, None, None]


def _contrasting(first: Tensor, second: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Push two colours (N, 3) towards black and white until their mean luminances differ by a drawn amount."""
    gap = (first.mean(1) - second.mean(1)).abs()
    target = _MIN_CONTRAST + (_MAX_CONTRAST - _MIN_CONTRAST) * draw
    push = ((target - gap) / (1 - gap)).clamp(min=0)[:, None]
    first_is_lighter = (first.mean(1) >= second.mean(1))[:, None].float()
    return (
        torch.lerp(first, first_is_lighter.expand_as(first), push),
        torch.lerp(second, (1 - first_is_lighter).expand_as(second), push),
    )


def _uniforms(indices: range, seed: int, stream: str, count: int) -> Tensor:
    """Return one row of `count` numbers in [0, 1) per image, from the image's own stream."""
    return torch.stack(
        [torch.rand(count, generator=generator(seed, str(index), stream), dtype=torch.float32) for index in indices]
    )


def _choice(draws: Tensor, count: int) -> Tensor:
    """Return integers from 0 to count - 1 for numbers in [0, 1)."""
    return (draws * count).long()
