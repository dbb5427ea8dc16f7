"""Blur integrated gradients: the gradient collected while the image is blurred away.

    values = -sum_i (sigma_{i+1} - sigma_i) * d score / d x at L(x, sigma_i) * (L(x, sigma_i + d) - L(x, sigma_i)) / d
    sigma_i = sigma * i / steps        L a Gaussian blur, d = 0.01

L is a product with a matrix from each side, so that the difference of two blurs is taken of the matrices, in double
precision, before the image is multiplied: nothing cancels. Completeness: sum(values) = score(x) - score(L(x, sigma)),
up to the quadrature; the gap is reported per image.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score; sigma in pixels.
Source: Xu, Venugopalan & Sundararajan, CVPR 2020, eq. 5-8, arXiv:2004.03383.
Departs from source: nothing; as there, what lies outside the image counts as zero, the mean colour.
    `padding="reflect"` mirrors the image instead, and leaves an even image even.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from xaikit.foundation.parameters import Count, Positive
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Padding = Literal["zero", "reflect"]

_STEP = 0.01
_CUT = 4.0  # standard deviations at which the Gaussian ends


@METHODS.register
@dataclass(frozen=True)
class BlurIntegratedGradients(InputMethod):
    """Path integral of the gradient along ever stronger blurs.

    Args:
        steps: points on the path.
        sigma: of the strongest blur, in pixels.
        padding: what lies outside the image.
    """

    steps: Count = 100
    sigma: Positive = 50.0
    padding: Padding = "zero"

    name = "blur-integrated-gradients"
    family = "gradient"
    source = "Xu et al., CVPR 2020, arXiv:2004.03383"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the sum along the path, (n, C, H, W)."""
        width = self.sigma / self.steps
        along = batch.folded_for(self.steps)
        values = torch.zeros_like(batch.inputs)

        def products(rows: Tensor, points: Tensor) -> Tensor:
            path, change = self._along(batch.inputs[rows], points.double() * width)
            return change.mul_(along.score_gradients(path, rows)[1])

        for rows, _, product in along.pairs(self.steps, products, "path points"):
            values.index_add_(0, rows, product, alpha=-width)
        every = torch.arange(len(batch), device=values.device)
        end = self._along(batch.inputs, torch.full((len(batch),), self.sigma, device="cpu").double())[0]
        promised = batch.scores - batch.scores_of(end, every)
        return Values(values, completeness=values.flatten(1).sum(1) - promised)

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward a step, and the two ends of the path."""
        return Cost(self.steps + 2, self.steps)

    def _along(self, images: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (m, C, H, W) blurred by sigmas (m,), and how the blur changes there with sigma."""
        down, across = (_blurs(length, sigmas, self.padding, images) for length in images.shape[-2:])
        rows, columns = down.now @ images, images @ across.next.mT
        return rows @ across.now.mT, down.slope @ columns + rows @ across.slope.mT


class _Blurs(NamedTuple):
    """Blurs along one axis, (m, 1, L, L): by sigma, by sigma + d, and their difference over d."""

    now: Tensor
    next: Tensor
    slope: Tensor


def _blurs(length: int, sigmas: Tensor, padding: Padding, like: Tensor) -> _Blurs:
    different = sorted(set(sigmas.tolist()))
    which = [different.index(sigma) for sigma in sigmas.tolist()]
    now, then = (
        torch.stack([blur_matrix(length, sigma + more, padding) for sigma in different]) for more in (0.0, _STEP)
    )
    return _Blurs(*(one[which][:, None].to(like) for one in (now, then, (then - now) / _STEP)))


def blur_matrix(length: int, sigma: float, padding: Padding) -> Tensor:
    """Return the Gaussian blur of `length` pixels by `sigma` as a matrix (length, length) float64.

    Its rows sum to one where the image is mirrored, and to what lies inside where it is not.
    """
    radius = int(_CUT * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device="cpu")
    kernel = torch.exp(-0.5 * (offsets.double() / max(sigma, _STEP)) ** 2)
    columns = torch.arange(length, device="cpu")[:, None] + offsets
    weights = (kernel / kernel.sum()).expand_as(columns)
    if padding == "zero":
        weights = weights * ((columns >= 0) & (columns < length))
        columns = columns.clamp(0, length - 1)
    else:
        columns = columns % (2 * length)
        columns = torch.minimum(columns, 2 * length - 1 - columns)
    return torch.zeros(length, length, dtype=torch.float64, device="cpu").scatter_add_(1, columns, weights)
