"""RISE: the mean of random masks, weighted by the probability that they keep.

    M_i  = crop of the bilinear enlargement of a grid of coin tosses, at a random offset; E[M_i] = p
    S(u) = 1 / (N p) sum_i p_c(x * M_i) M_i(u)                                       variant "plain"
    C(u) = sum_i (p_c(x * M_i) - mean p_c) (M_i(u) - mean M(u)) / (N var M(u))       variant "centred"

"plain" carries the mean probability as an offset under the whole map; "centred" is the slope of the probability on the
mask, signed, and varies far less from draw to draw. The masks depend on the seed and the image's size alone and are
shared by all images; kept are the grids and offsets, and masks are made again for each portion as U_y G_i U_x^T.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W).
Units:  "plain" mean probability given that the pixel is kept, in [0, 1] but for sampling noise, which the diagnostic
    `standard_error` measures (mean over pixels); "centred" probability a unit of mask.
Source: Petsiuk et al., BMVC 2018, eq. 6, arXiv:1806.07421.
Departs from source: masks are enlarged with half-pixel centres up to the border, where the authors' resizing reflects;
    "centred" is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import Scorer
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_LEAST_VARIANCE = 1e-9  # of a mask at a pixel, below which it says nothing
_AT_ONCE = 16  # masks in one step of the sums, whatever the portion is, so that sums are equal to the bit


class SmoothMasks:
    """Random smooth masks, kept as coarse grids and made when asked for.

    Args:
        count: number of masks.
        grid: cells a side.
        keep: probability that a cell is kept.
        size: (H, W) of the masks.
        seed: names the draw, together with the size.
        like: gives device and dtype.
    """

    def __init__(self, count: int, grid: int, keep: float, size: tuple[int, int], seed: int, like: Tensor) -> None:
        self.size = size
        stream = generator(seed, "rise", f"{size[0]}x{size[1]}")
        cells = [math.ceil(side / grid) for side in size]
        drawn = torch.rand(count, grid, grid, generator=stream, device="cpu") < keep
        self.grids = drawn.to(like)
        self.offsets = [torch.randint(cell, (count,), generator=stream, device="cpu").to(like.device) for cell in cells]
        self._enlarge = [_enlarging(grid, cell, side).to(like) for cell, side in zip(cells, size, strict=True)]

    def __call__(self, items: Tensor) -> Tensor:
        """Return the masks (m, H, W) of items (m,)."""
        down, across = (table[offset[items]] for table, offset in zip(self._enlarge, self.offsets, strict=True))
        return down @ self.grids[items] @ across.mT


@METHODS.register
@dataclass(frozen=True)
class RISE(InputMethod):
    """Mean of random masks, weighted by the probability that they keep.

    Args:
        samples: number of masks.
        grid: cells a side of the coarse masks.
        keep: probability that a cell is kept.
        fill: what removed pixels become: a fill by name, or pixels that broadcast to the images.
        variant: "plain" is the paper's, "centred" the slope of the probability on the mask.
    """

    samples: Count = 4000
    grid: Count = 7
    keep: Annotated[float, Gt(0), Le(1)] = 0.5
    fill: Fill | Tensor = "mean"
    variant: Literal["plain", "centred"] = "plain"

    name = "rise"
    family = "perturbation"
    source = "Petsiuk et al., BMVC 2018, arXiv:1806.07421"
    scale = "unit"
    needs = frozenset({"probabilities"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        if self.variant == "centred":
            object.__setattr__(self, "scale", "minmax")

    def compute(self, batch: Batch) -> Values:
        """Return the weighted mean of the masks, (n, H, W)."""
        if self.grid > min(batch.size):
            side = min(batch.size)
            raise BadInput(f"grid: expected at most the image's {side} pixels a side, got {self.grid}; lower it")
        scorer = Scorer(batch, self.fill, "probability")
        masks = SmoothMasks(self.samples, self.grid, self.keep, batch.size, batch.context.seed, scorer.clean)
        kept = torch.stack(scorer.of_masks(self.samples, lambda _, items: masks(items)))
        if self.variant == "centred":
            return Values(self._slope(masks, kept))
        mean = _weighted_sum(masks, kept) / self.samples
        variance = (_weighted_sum(masks, kept, power=2) / self.samples - mean.square()).clamp(min=0)
        return Values(
            mean / self.keep,
            diagnostics={"standard_error": (variance / self.samples).sqrt().mean((1, 2)) / self.keep},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image and one forward a mask."""
        return Cost(1 + self.samples, 0)

    def _slope(self, masks: SmoothMasks, kept: Tensor) -> Tensor:
        ones = torch.ones_like(kept[:1])
        mean, square = (_weighted_sum(masks, ones, power)[0] / self.samples for power in (1, 2))
        variance = square - mean.square()
        covariance = _weighted_sum(masks, kept - kept.mean(1, keepdim=True)) / self.samples
        return torch.where(variance > _LEAST_VARIANCE, covariance / variance.clamp(min=_LEAST_VARIANCE), 0)


def _weighted_sum(masks: SmoothMasks, weights: Tensor, power: int = 1) -> Tensor:
    """Return sum_i (w_i M_i)^power (n, H, W) for weights (n, count)."""
    total = weights.new_zeros(len(weights), *masks.size)
    for items in torch.split(torch.arange(weights.shape[1], device=weights.device), _AT_ONCE):
        made = masks(items).flatten(1).pow(power)
        total += torch.stack([one[items].pow(power) @ made for one in weights]).reshape(total.shape)
    return total


def _enlarging(grid: int, cell: int, side: int) -> Tensor:
    """Return for each offset the matrix (side, grid) that enlarges a row of cells and crops it, (cell, side, grid)."""
    whole = F.interpolate(
        torch.eye(grid, device="cpu")[None], size=(grid + 1) * cell, mode="linear", align_corners=False
    )[0].T
    return whole.unfold(0, side, 1)[:cell].mT.contiguous()
