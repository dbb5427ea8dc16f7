"""Blur integrated gradients: the gradient integrated along a path of increasing blur.

    values = -sum_i (sigma_{i+1} - sigma_i) * d score / d x at L(x, sigma_i) * (L(x, sigma_i + d) - L(x, sigma_i)) / d
    sigma_i = sigma * i / steps        L a Gaussian blur, d = 0.01

In words: The gradient of the score is collected while the image goes from very blurred to sharp, and each pixel gets
the gradient times its own change. The map is fine, signed and specific to the class, and its values add up to the
difference between the score of the image and that of the blurred one. No colour has to be chosen as a baseline.
Whatever the blur does not change, such as a large uniform area, gets almost nothing. It costs 100 backwards by default.

L multiplies the image by one matrix per axis. The difference of two blurs is computed on the matrices, in double
precision, to avoid cancellation. Completeness: sum(values) = score(x) - score(L(x, sigma)), up to the quadrature error;
the gap is reported per image, which is flagged `incomplete` above 1 %.

With `weighting="idgi"` (Yang et al., CVPR 2023, arXiv:2303.14242) each step gives out the change of the score over it,
in shares of the squared gradient at its blurred end:

    values = sum_i g_i^2 / sum g_i^2 * (score at sigma_{i-1} - score at sigma_i)        g_i at L(x, sigma_i)

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score; sigma in pixels.
Source: Xu, Venugopalan & Sundararajan, CVPR 2020, eq. 5-8, arXiv:2004.03383.
Departs from source: nothing; as in the source, pixels outside the image are zero, the mean colour.
    `padding="reflect"` mirrors the image instead, which keeps an image of one colour unchanged.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt, Le
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.completeness import flagged, missed
from xaikit.methods.gradient.idgi import Weighting, important_direction
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Padding = Literal["zero", "reflect"]

_STEP = 0.01
_TRUNCATION = 4.0  # radius of the kernel, in standard deviations


@METHODS.register
@dataclass(frozen=True)
class BlurIntegratedGradients(InputMethod):
    """Path integral of the gradient along increasing blurs.

    Args:
        steps: number of points on the path.
        sigma: standard deviation of the strongest blur, in pixels; 10,000 is more than any image needs.
        padding: how the image continues outside its border: "zero" or "reflect".
        weighting: "path" multiplies the gradient by the change of the image, "idgi" gives out the change of the score
            in shares of the squared gradient.
    """

    steps: Count = 100
    sigma: Annotated[float, Gt(0), Le(10_000)] = 50.0
    padding: Padding = "zero"
    weighting: Weighting = "path"

    name = "blur-integrated-gradients"
    family = "gradient"
    source = "Xu et al., CVPR 2020, arXiv:2004.03383"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the sum along the path, (n, C, H, W)."""
        width = self.sigma / self.steps
        values = torch.zeros_like(batch.inputs)

        def products(rows: Tensor, steps: Tensor) -> Tensor:
            if self.weighting == "idgi":
                sharper, here = (
                    self._blurred(batch.inputs[rows], (steps + more).double() * width)[0] for more in (0, 1)
                )
                score, gradient = batch.score_gradients(here, rows)
                return important_direction(gradient, batch.scores_of(sharper, rows) - score)
            path, change = self._blurred(batch.inputs[rows], steps.double() * width)
            return change.mul_(batch.score_gradients(path, rows)[1]).mul_(-width)

        for rows, _, product in batch.pairs(self.steps, products, "path points"):
            values.index_add_(0, rows, product)
        all_rows = torch.arange(len(batch), device=values.device)
        end = self._blurred(batch.inputs, torch.full((len(batch),), self.sigma, device="cpu").double())[0]
        others = batch.scores_of(end, all_rows)
        gap = values.flatten(1).sum(1) - (batch.scores - others)
        return Values(values, completeness=gap, flags=flagged(missed(gap, batch.scores, others, batch.arithmetic)))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the passes: a forward and a backward per step, another forward with "idgi", and one for each end."""
        return Cost((self.steps if self.weighting == "path" else 2 * self.steps) + 2, self.steps)

    def _blurred(self, images: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (m, C, H, W) blurred by sigmas (m,), and their derivatives with respect to sigma."""
        down, across = (_blurs(length, sigmas, self.padding, images) for length in images.shape[-2:])
        rows, columns = down.now @ images, images @ across.next.mT
        return rows @ across.now.mT, down.slope @ columns + rows @ across.slope.mT


class _Blurs(NamedTuple):
    """Blur matrices along one axis, (m, 1, L, L): for sigma, for sigma + d, and their difference divided by d."""

    now: Tensor
    next: Tensor
    slope: Tensor


def _blurs(length: int, sigmas: Tensor, padding: Padding, like: Tensor) -> _Blurs:
    distinct = sorted(set(sigmas.tolist()))
    index = [distinct.index(sigma) for sigma in sigmas.tolist()]
    now, after = (torch.stack([blur_matrix(length, sigma + d, padding) for sigma in distinct]) for d in (0.0, _STEP))
    return _Blurs(*(matrices[index][:, None].to(like) for matrices in (now, after, (after - now) / _STEP)))


def blur_matrix(length: int, sigma: float, padding: Padding) -> Tensor:
    """Return the Gaussian blur along an axis of `length` pixels as a matrix (length, length) float64.

    With `padding="reflect"` each row sums to one; with "zero", to the part of the kernel that lies inside the image.
    """
    radius = int(_TRUNCATION * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device="cpu")
    kernel = torch.exp(-0.5 * (offsets.double() / max(sigma, _STEP)) ** 2)
    kernel = kernel / kernel.sum()
    row, column = torch.arange(length, device="cpu")[:, None], torch.arange(length, device="cpu")
    if padding == "zero":
        inside = (column - row).abs() <= radius
        return torch.where(inside, kernel[(column - row + radius).clamp(0, 2 * radius)], 0)
    period = 2 * length  # mirrored images repeat after twice the length
    repeated = torch.zeros(period, dtype=torch.float64, device="cpu").index_add_(0, offsets % period, kernel)
    return repeated[(column - row) % period] + repeated[(period - 1 - column - row) % period]
