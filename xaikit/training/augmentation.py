"""What training does to a batch so that the network stays sensible on the inputs attribution makes.

    masked   x * M, with M a random soft or hard mask: masked images are then no news to the network
    flipped  x mirrored left to right

Shapes: inputs (N, C, H, W), normalised, so that zero is the mean colour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_GRID = 8
_MAX_QUANTILE = 0.6


def masked(inputs: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Multiply a random `share` of the images by random masks.

    A mask is an 8x8 field of random numbers, upsampled and scaled to [0, 1] per image, zero below its quantile q with q
    uniform in [0, 0.6]; half of the masks keep the field's values above it (soft), half are one there (hard).
    """
    count, _, height, width = inputs.shape
    chosen = torch.rand(count, generator=stream) < share
    hard = torch.rand(count, 1, 1, 1, generator=stream) < 0.5
    quantile = _MAX_QUANTILE * torch.rand(count, generator=stream)
    coarse = torch.rand(count, 1, _GRID, _GRID, generator=stream)

    field = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    field = (field - low) / (high - low)
    cut = (quantile * (height * width - 1)).long()[:, None]
    threshold = field.flatten(1).sort(1).values.gather(1, cut).view(-1, 1, 1, 1)
    mask = (field >= threshold) * torch.where(hard, 1.0, field)
    mask[~chosen] = 1.0
    return inputs * mask.to(inputs)


def flipped(inputs: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Mirror a random `share` of the images left to right."""
    chosen = (torch.rand(len(inputs), generator=stream) < share).to(inputs.device)
    return torch.where(chosen[:, None, None, None], inputs.flip(3), inputs)
