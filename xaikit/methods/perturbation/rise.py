"""RISE: the mean of random masks, weighted by the probability of the class under each mask.

    M_i  = crop of a bilinearly upsampled grid of random bits, at a random offset; E[M_i] = p
    S(u) = 1 / (N p) sum_i p_c(x * M_i) M_i(u)                                       variant "plain"
    C(u) = sum_i (p_c(x * M_i) - mean p_c) (M_i(u) - mean M(u)) / (N var M(u))       variant "centred"

In words: The image is shown through thousands of random smooth masks, and the masks are averaged with the probability
of the class as weight: a pixel is bright if the network was confident when it was visible. The map is smooth and
specific to the class. It contains the mean probability as an offset, so look at differences and not at the level; the
variant "centred" removes it and is signed. With too few masks it shows the masks themselves. It costs 4,000 forwards by
default.

"plain" contains the mean probability as a constant offset; "centred" is the regression slope of the probability on the
mask, is signed, and varies far less between draws. The masks depend only on the seed and the image size, and are shared
by all images. Equal probabilities give a constant map, without the noise of the masks. Only grids and offsets are
stored; each portion builds its masks as U_y G_i U_x^T.

masks "smooth"   as above
masks "patches"  M_i = the grid itself, each bit a block of pixels at a fixed place: with `grid` the number of patches
                 per side of a vision transformer (14 for patches of 16 in 224 pixels), its tokens as wholes

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W).
Units:  "plain": mean probability given that the pixel is kept, in [0, 1] up to sampling noise, which the diagnostic
    `standard_error` measures (mean over pixels), or the mean value of a callable or a regression; "centred":
    probability per unit of mask.
Source: Petsiuk et al., BMVC 2018, eq. 6, arXiv:1806.07421.
Departs from source: upsampling uses half-pixel centres and extends to the border (source: reflects there); adds the
    variant "centred" and the masks "patches"; a constant probability gives a constant map.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, check_table
from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import Scorer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_LEAST_VARIANCE = 1e-9  # variance of the masks at a pixel below which its slope is 0
_LEAST_KEPT = 1e-6

Masks = Literal["smooth", "patches"]
_CHUNK = 16  # masks per step of a sum; independent of the portions, so that sums are bitwise reproducible


class GridMasks:
    """Random masks, stored as coarse grids and built on demand.

    Args:
        count: number of masks.
        grid: number of cells per side.
        keep: probability that a cell is kept.
        size: (H, W) of the masks.
        seed: seed of the random draw, together with the size.
        like: tensor that sets device and dtype.
        masks: "smooth" at a random offset, or the cells themselves as "patches".
    """

    def __init__(
        self,
        count: int,
        grid: int,
        keep: float,
        size: tuple[int, int],
        seed: int,
        like: Tensor,
        masks: Masks = "smooth",
    ) -> None:
        self.size = size
        stream = generator(seed, "rise", f"{size[0]}x{size[1]}")
        cells = [math.ceil(side / grid) if masks == "smooth" else 1 for side in size]
        self.grids = (torch.rand(count, grid, grid, generator=stream, dtype=torch.float32, device="cpu") < keep).to(
            like
        )
        self.offsets = [torch.randint(cell, (count,), generator=stream, device="cpu").to(like.device) for cell in cells]
        upsampling = _upsampling if masks == "smooth" else _repetition
        self._upsampling = [upsampling(grid, cell, side).to(like) for cell, side in zip(cells, size, strict=True)]

    def __call__(self, items: Tensor) -> Tensor:
        """Return the masks (m, H, W) with numbers `items` (m,)."""
        down, across = (table[offset[items]] for table, offset in zip(self._upsampling, self.offsets, strict=True))
        return down @ self.grids[items] @ across.mT


@METHODS.register
@dataclass(frozen=True)
class RISE(InputMethod):
    """Mean of random masks, weighted by the probability of the class under each mask.

    Args:
        samples: number of masks.
        grid: number of cells per side of the coarse masks.
        keep: probability that a cell is kept.
        fill: content of removed pixels: the name of a fill, or pixels that broadcast to the images.
        variant: "plain" is the paper's, "centred" is the regression slope of the probability on the mask.
        masks: "smooth" masks are the paper's, "patches" keep and remove whole cells, for vision transformers.
    """

    samples: Count = 4000
    grid: Count = 7
    keep: Annotated[float, Gt(0), Le(1)] = 0.5
    fill: Fill | Tensor = "mean"
    variant: Literal["plain", "centred"] = "plain"
    masks: Masks = "smooth"

    name = "rise"
    family = "perturbation"
    source = "Petsiuk et al., BMVC 2018, arXiv:1806.07421"
    scale = "unit"
    needs = frozenset({"probabilities"})

    def check(self) -> None:
        """Check that masks keep something and fit into memory; use the scale "minmax" for the signed variant."""
        if self.keep < _LEAST_KEPT:
            raise BadInput(f"keep: expected at least {_LEAST_KEPT}, got {self.keep}, which keeps no cell of any mask")
        check_table("samples", self.samples, self.grid**2, "lower samples or grid")
        if self.variant == "centred":
            object.__setattr__(self, "scale", "minmax")

    def compute(self, batch: Batch) -> Values:
        """Return the weighted mean of the masks, (n, H, W)."""
        if self.grid > min(batch.size):
            raise BadInput(f"grid: expected at most the image's {min(batch.size)} pixels a side, got {self.grid}")
        if self.masks == "patches" and any(side % self.grid for side in batch.size):
            height, width = batch.size
            raise BadInput(
                f"grid: expected a divisor of the image's {height}x{width} pixels for patches, got {self.grid}; take "
                "the network's number of patches per side"
            )
        scorer, seed = Scorer(batch, self.fill, "probability"), batch.context.seed
        masks = GridMasks(self.samples, self.grid, self.keep, batch.size, seed, scorer.clean, self.masks)
        probabilities = torch.stack(scorer.of_masks(self.samples, lambda _, items: masks(items)))
        if self.variant == "centred":
            return Values(self._slope(masks, probabilities))
        mean = _weighted_sum(masks, probabilities) / self.samples
        mean = torch.where(_constant(probabilities)[:, None], self.keep * probabilities[:, :1, None], mean)
        variance = (_weighted_sum(masks, probabilities, power=2) / self.samples - mean.square()).clamp(min=0)
        is_probability = batch.target.function is None and batch.classifier.output != "regression"
        return Values(
            mean / self.keep,
            scale="unit" if is_probability else "minmax",
            diagnostics={"standard_error": (variance / self.samples).sqrt().mean((1, 2)) / self.keep},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image and one per mask."""
        return Cost(1 + self.samples, 0)

    def _slope(self, masks: GridMasks, probabilities: Tensor) -> Tensor:
        ones = torch.ones_like(probabilities[:1])
        mean, square = (_weighted_sum(masks, ones, power)[0] / self.samples for power in (1, 2))
        variance = square - mean.square()
        differences = probabilities - probabilities.mean(1, keepdim=True)
        covariance = _weighted_sum(masks, differences.masked_fill(_constant(probabilities), 0)) / self.samples
        return torch.where(variance > _LEAST_VARIANCE, covariance / variance.clamp(min=_LEAST_VARIANCE), 0)


def _constant(probabilities: Tensor) -> Tensor:
    """Return whether all probabilities (n, count) of an image are equal, (n, 1)."""
    return (probabilities == probabilities[:, :1]).all(1, keepdim=True)


def _weighted_sum(masks: GridMasks, weights: Tensor, power: int = 1) -> Tensor:
    """Return sum_i (w_i M_i)^power (n, H, W) for weights (n, count)."""
    total = weights.new_zeros(len(weights), *masks.size)
    for items in torch.split(torch.arange(weights.shape[1], device=weights.device), _CHUNK):
        chunk = masks(items).flatten(1).pow(power)
        sums = [image_weights[items].pow(power) @ chunk for image_weights in weights]
        total += torch.stack(sums).reshape(total.shape)
    return total


def _upsampling(grid: int, cell: int, side: int) -> Tensor:
    """Return the matrices that upsample a row of cells and crop it, one per offset, (cell, side, grid)."""
    cells = torch.eye(grid, device="cpu")[None]
    upsampled = F.interpolate(cells, size=(grid + 1) * cell, mode="linear", align_corners=False)[0].T
    return upsampled.unfold(0, side, 1)[:cell].mT.contiguous()


def _repetition(grid: int, cell: int, side: int) -> Tensor:
    """Return the matrix that repeats a row of cells as blocks of pixels, for one offset, (1, side, grid)."""
    return torch.eye(grid, device="cpu").repeat_interleave(side // grid, 0)[None]
