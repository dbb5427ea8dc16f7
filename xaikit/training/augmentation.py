"""Augmentation of a training batch.

    masked   x * M, with M a random soft or hard mask: prepares the network for the masked images of attribution methods
    flipped  x mirrored left to right
    varied   random crop, rotation, brightness and contrast of torchvision, for each picture its own

Shapes: inputs (N, C, H, W), normalised, so that zero is the mean colour; `varied` takes pixels in [0, 1].
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

_GRID = 8
_MAX_QUANTILE = 0.6


def masked(inputs: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Return the images with a random `share` of them multiplied by random masks.

    A mask is an 8x8 field of random numbers, upsampled, scaled to [0, 1] and set to zero below its quantile q, with q
    uniform in [0, 0.6]. Above the quantile half of the masks keep the field (soft) and half are one (hard).
    """
    count, _, height, width = inputs.shape
    selected = torch.rand(count, generator=stream, dtype=torch.float32) < share
    hard = torch.rand(count, 1, 1, 1, generator=stream, dtype=torch.float32) < 0.5
    quantile = _MAX_QUANTILE * torch.rand(count, generator=stream, dtype=torch.float32)
    coarse = torch.rand(count, 1, _GRID, _GRID, generator=stream, dtype=torch.float32)

    field = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    field = (field - low) / (high - low)
    cut = (quantile * (height * width - 1)).long()[:, None]
    threshold = field.flatten(1).sort(1).values.gather(1, cut).view(-1, 1, 1, 1)
    mask = (field >= threshold) * torch.where(hard, 1.0, field)
    mask[~selected] = 1.0
    return inputs * mask.to(inputs)


def flipped(inputs: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Return the images with a random `share` of them mirrored left to right."""
    selected = (torch.rand(len(inputs), generator=stream, dtype=torch.float32) < share).to(inputs.device)
    return torch.where(selected[:, None, None, None], inputs.flip(3), inputs)


def varied(pixels: Tensor, crop: float, rotate: float, colour: float, mean: Sequence[float]) -> Tensor:
    """Return pixels (N, C, H, W) with a random crop, rotation and change of colours of each picture.

    Draws from torch's global generator, as torchvision's transforms do.

    Args:
        pixels: pictures in [0, 1].
        crop: smallest share of the area that is kept; 1 crops none.
        rotate: largest angle, in degrees.
        colour: largest relative change of brightness and of contrast.
        mean: colour of the corners that a rotation leaves, of each channel.
    """
    steps: list[v2.Transform] = []
    if crop < 1:
        steps.append(v2.RandomResizedCrop(pixels.shape[2:], scale=(crop, 1.0)))
    if rotate:
        steps.append(v2.RandomRotation(rotate, v2.InterpolationMode.BILINEAR, fill=list(mean)))
    if colour:
        steps.append(v2.ColorJitter(brightness=colour, contrast=colour))
    return torch.stack([v2.Compose(steps)(picture) for picture in pixels]) if steps else pixels
