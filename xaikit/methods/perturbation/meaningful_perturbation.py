"""Meaningful perturbation: the smallest smooth mask whose removal lowers the probability of the class.

    min_c  l1 * sum |1 - c| + l2 * sum |grad c|^beta + p_c(shift(m * x + (1 - m) * blur(x)))
    m = blur(upsample(c))                    map = 1 - m

In words: An optimiser searches for the smallest smooth mask that lowers the probability of the class by blurring what
it covers. The map shows how much of each place is removed: smooth, from 0 to 1, specific to the class. It shows what is
necessary for this answer, not how much each part counts or what speaks against the class. The weights of the penalties
decide how large the mask becomes, and the search may end at one of several solutions. It takes 300 backwards by
default.

The mask c has `grid` cells along the short side. In each step the image is shifted cyclically by up to 4 pixels, drawn
from the seed and equal for all images. The optimiser is Adam (rate 0.1, decays 0.9 and 0.999), with c clamped to
[0, 1]. Lengths refer to an image whose short side is 224 pixels: the fill is blurred by 10 pixels, the mask by 5.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in [0, 1].
Units:  share of the image's detail that is removed.
Source: Fong & Vedaldi, ICCV 2017, eq. 3-4 and section 4.3, arXiv:1704.03296.
Departs from source: the descent starts with everything removed instead of a disc chosen per image, because near a
    mostly visible image the probability of a confident network is too flat to outweigh the penalty.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.foundation.parameters import Count, NotNegative
from xaikit.images.fills import Fill, blend, blurred
from xaikit.images.shapes import upsample
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.mask_search import Adam, Search, SearchScore, View, search_masks
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_SIDE, _GRID, _SMOOTHING, _SHIFT = 224, 28, 5.0, 4
_RATE = 0.1
_ROUNDING_STEPS = 8  # of a mask that keeps everything


@METHODS.register
@dataclass(frozen=True)
class MeaningfulPerturbation(InputMethod):
    """Smallest smooth mask whose removal lowers the probability of the class.

    Args:
        steps: number of gradient steps.
        grid: number of mask cells along the image's short side; None is 28, at most one per pixel.
        sparsity: penalty l1 per removed cell.
        smoothness: penalty l2 on differences of neighbouring cells.
        exponent: exponent beta of these differences.
        fill: content of removed pixels: the name of a fill, or pixels that broadcast to the images.
    """

    steps: Count = 300
    grid: Count | None = None
    sparsity: NotNegative = 1e-4
    smoothness: NotNegative = 1e-2
    exponent: Annotated[float, Ge(1)] = 3.0
    fill: Fill | Tensor = "blur"

    name = "meaningful-perturbation"
    family = "perturbation"
    source = "Fong & Vedaldi, ICCV 2017, arXiv:1704.03296"
    signed = False
    needs = frozenset({"input-gradient", "probabilities"})

    def compute(self, batch: Batch) -> Values:
        """Return 1 - m, (n, H, W)."""
        cells = self._cells(batch.size)
        filled = batch.filled(self.fill, "fill").expand_as(batch.inputs)
        axes = zip(cells, batch.size, strict=True)
        spread = tuple(_spread(count, side, min(batch.size)).to(batch.inputs) for count, side in axes)
        shifts = _shifts(self.steps, batch)

        def begin(rows: Tensor, copies: Tensor) -> Search:
            return _Deletion(self, batch.inputs[rows], filled[rows], spread, shifts)

        removed = 1 - search_masks(batch, 1, self.steps, begin)[:, 0].clamp(0, 1)
        rounding = _ROUNDING_STEPS * torch.finfo(removed.dtype).eps
        removed = torch.where(removed.amax((1, 2), keepdim=True) <= rounding, 0, removed)
        return Values(removed, params={"grid": min(cells)}, diagnostics={"area": removed.mean((1, 2))})

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return one forward and one backward per step, plus a forward for the clean image."""
        return Cost(1 + self.steps, self.steps)

    def _cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the number of cells (down, across) of the mask, which are about square.

        Raises:
            BadInput: there are more cells than pixels.
        """
        short = min(size)
        grid = min(_GRID, short) if self.grid is None else self.grid
        if grid > short:
            raise BadInput(f"grid: expected at most {short} cells, one per pixel, got {grid}")
        return round(size[0] * grid / short), round(size[1] * grid / short)


class _Deletion(Search):
    """The masks of one portion; they start from c = 0 everywhere."""

    score: SearchScore = "probability"

    def __init__(
        self, method: MeaningfulPerturbation, inputs: Tensor, filled: Tensor, spread: tuple[Tensor, ...], shifts: Tensor
    ) -> None:
        self.method, self.image, self.filled, self.shifts = method, inputs, filled, shifts.tolist()
        self.down, self.across = spread
        self.parameters = inputs.new_zeros(len(inputs), len(self.down), len(self.across))
        self.adam = Adam(self.parameters, _RATE)

    def masks(self, parameters: Tensor) -> Tensor:
        return torch.einsum("nab,ah,bw->nhw", parameters, self.down, self.across)

    def views(self, masks: Tensor, step: int) -> list[View]:
        images = blend(self.image, masks, self.filled)
        return [View(torch.roll(images, self.shifts[step], (2, 3)), images.new_ones(len(images)))]

    def penalty(self, parameters: Tensor, masks: Tensor, step: int) -> Tensor:
        roughness = sum(parameters.diff(dim=axis).abs().pow(self.method.exponent).sum((1, 2)) for axis in (1, 2))
        return self.method.sparsity * (1 - parameters).abs().sum((1, 2)) + self.method.smoothness * roughness

    def move(self, gradient: Tensor, step: int) -> None:
        self.parameters = (self.parameters - self.adam.move(gradient, step)).clamp(0, 1)


def _spread(cells: int, side: int, short: int) -> Tensor:
    """Return the weight of each cell in each pixel along one axis, (cells, side): upsampling, then a blur."""
    upsampled = upsample(torch.eye(cells, dtype=torch.float64, device="cpu")[:, :, None], (side, 1))
    return blurred(upsampled[:, None], _SMOOTHING * short / _SIDE)[:, 0, :, 0]


def _shifts(steps: int, batch: Batch) -> Tensor:
    """Return the shift (down, across) of each step, (steps, 2)."""
    largest = round(_SHIFT * min(batch.size) / _SIDE)
    stream = generator(batch.context.seed, "meaningful-perturbation", f"{steps} shifts up to {largest}")
    return torch.randint(-largest, largest + 1, (steps, 2), generator=stream, device="cpu")
