"""Extremal perturbation: the smooth mask of a fixed area that keeps the score highest.

    max_p  score(m (x) x) - w_t * mean_u (sort(m)_u - r_u)^2         r = 0 for the lowest pixels, 1 for the top share a
    m(u) = sum_j q_j softmax_j(20 q_j),  q_j = p_j k(|u - c_j| / sigma),  k(z) = exp(-2 max(z - 1/2, 0)^2)
    m (x) x = the image blurred by (1 - m) * 20 pixels, from a pyramid of 8 levels
    w_t = 300 * 1.0052^t;  momentum 0.9, rate 0.01, p clamped to [0, 1];  every other step sees the image mirrored
    score scaled such that the whole image scores 80 more than the blurred image

In words: An optimiser searches for a smooth mask that covers a fixed share of the image, 10 % by default, such that the
network, which sees the rest blurred, gives the class the highest score. The map is that mask: smooth, from 0 to 1,
specific to the class. It shows what suffices for the class and not how much each part counts, and its area is your
choice: try several. The search may stop at a good mask that is not the best. It takes 800 backwards by default.

The parameters p lie on a grid, one every `stride` pixels, with centres c_j; m is a smooth maximum over neighbouring
parameters, so no mask has detail finer than sigma. `variant="delete"` searches for the mask whose removal lowers the
score most, "dual" for the mask that does both, with the difference of the two scores as objective. With several areas
the masks are averaged. Lengths refer to an image whose short side is 224 pixels. A mask whose area is off by more than
3 percentage points, for example after few steps, gets the flag `area-missed`.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in [0, 1].
Units:  share of the image's detail that is kept (or removed).
Source: Fong, Patrick & Vedaldi, ICCV 2019, sections 3 and 4, arXiv:1910.08485; constants of the authors' TorchRay.
Departs from source: the score is scaled and w_t grows faster (source: unscaled logits, 1.0035), so that the class
    evidence outweighs the area term early on, also in networks with small logits; the area is measured inside the
    image, so that it equals the requested one, and the parameters are mirrored at the border (source: the area includes
    a margin); pixels of equal value share their targets (source: a sort orders them by position); the first step is
    damped like the others; the search for "delete" also starts from the unchanged image (source: from p = 1, here the
    blurred image, whose gradients do not show what carries the class); lengths scale with the image size, the rate with
    the number of steps and of parameters (32 x 32 at 224), the growth with the number of steps.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count, Positive
from xaikit.images.fills import blurred
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.mask_search import Search, View, search_masks
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_Area = Annotated[float, Gt(0), Lt(1)]
Variant = Literal["preserve", "delete", "dual"]

_SIDE, _SIGMA, _STRIDES, _LARGEST_BLUR = 224, 21.0, 3, 20.0
_LEVELS, _COLDNESS = 8, 20.0
_STEPS, _LEAST_STEPS, _CELLS = 800, 100, 32**2
_RATE, _MOMENTUM = 0.01, 0.9
_WEIGHT, _GROWTH = 300.0, 1.0052
_SCORE_GAIN, _LEAST_GAIN = 80.0, 0.05
_EPSILON = 1e-6
_AREA_TOLERANCE = 0.03  # share of the image


@METHODS.register
@dataclass(frozen=True)
class ExtremalPerturbation(InputMethod):
    """Smooth mask of a fixed area that keeps the score highest.

    Args:
        areas: share of the image that the mask covers, or a tuple of shares, whose masks are averaged.
        steps: number of gradient steps; fewer steps are longer, and a search of fewer than 100 stops early.
        variant: "preserve" keeps the score with what the mask shows, "delete" lowers it by what the mask removes,
            "dual" does both.
        sigma: width in pixels over which a mask fades out; at most the image's short side; None is 21,
            scaled with the short side over 224.
    """

    areas: _Area | tuple[_Area, ...] = 0.1
    steps: Count = _STEPS
    variant: Variant = "preserve"
    sigma: Positive | None = None

    name = "extremal-perturbation"
    family = "perturbation"
    source = "Fong et al., ICCV 2019, arXiv:1910.08485"
    signed = False
    scale = "unit"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Check that there is an area."""
        if not self._areas:
            raise BadInput("areas: expected at least one share, got none; pass for example 0.1")

    def compute(self, batch: Batch) -> Values:
        """Return the mean of the masks over the areas, (n, H, W)."""
        sigma = self.sigma or _SIGMA * min(batch.size) / _SIDE
        if sigma > min(batch.size):
            raise BadInput(f"sigma: expected at most the image's {min(batch.size)} pixels a side, got {sigma:g}")
        areas = torch.tensor(self._areas, dtype=batch.inputs.dtype, device=batch.inputs.device)

        def begin(rows: Tensor, copies: Tensor) -> Search:
            search = _Extremal(self, batch.inputs[rows], areas[copies], sigma)
            search.pull = self._pull(batch, search.pyramid[:, 0], rows)
            return search

        masks = search_masks(batch, len(areas), self.steps, begin)
        missed = (masks.mean((2, 3)) - areas).abs().amax(1)
        return Values(
            masks.mean(1),
            flags=[{"area-missed"} if flagged else set() for flagged in (missed > _AREA_TOLERANCE).tolist()],
            params={"sigma": sigma},
            diagnostics={"area error": missed},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the class, two per area, and a forward and backward per view, step and area."""
        passes = self.steps * len(self._areas) * (2 if self.variant == "dual" else 1)
        return Cost(1 + 2 * len(self._areas) + passes, passes)

    def _pull(self, batch: Batch, blurred_inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the weight of the score (m,), which scales the gain from blurred to sharp image to `_SCORE_GAIN`."""
        clean = batch.scores_of(batch.inputs[rows], rows)
        gain = (clean - batch.scores_of(blurred_inputs, rows)).abs()
        gain = torch.maximum(gain, _LEAST_GAIN * clean.abs())
        return torch.where(gain > 0, _SCORE_GAIN / gain, 0)

    @property
    def _areas(self) -> tuple[float, ...]:
        return self.areas if isinstance(self.areas, tuple) else (self.areas,)


class _Extremal(Search):
    """The masks of one portion; they start from the mask that leaves the image unchanged."""

    def __init__(self, method: ExtremalPerturbation, inputs: Tensor, areas: Tensor, sigma: float) -> None:
        stride = max(1, round(sigma / _STRIDES))
        self.weights = _taps(sigma, stride).to(inputs)
        self.size = (inputs.shape[2], inputs.shape[3])
        self.pyramid = _pyramid(inputs)
        self.covered = areas * self.size[0] * self.size[1]
        self.variant = method.variant
        self.pull = inputs.new_ones(len(inputs))
        self.stretch = _STEPS / max(method.steps, _LEAST_STEPS)
        cells = [math.ceil(side / stride) for side in self.size]
        self.parameters = inputs.new_full((len(inputs), *cells), 0.0 if self.variant == "delete" else 1.0)
        self.speed = torch.zeros_like(self.parameters)
        self.rate = _RATE * self.stretch * self.parameters[0].numel() / _CELLS

    def masks(self, parameters: Tensor) -> Tensor:
        smooth: Tensor = _SmoothMaximum.apply(parameters, self.weights)
        return smooth[:, : self.size[0], : self.size[1]]

    def views(self, masks: Tensor, step: int) -> list[View]:
        sides = {"preserve": [(masks, -self.pull)], "delete": [(1 - masks, self.pull)]}
        chosen = sides.get(self.variant, sides["preserve"] + sides["delete"])
        images = [(_sharpened(self.pyramid, sharpness), pull) for sharpness, pull in chosen]
        return [View(image.flip(3) if step % 2 == 0 else image, pull) for image, pull in images]

    def penalty(self, parameters: Tensor, masks: Tensor, step: int) -> Tensor:
        targets = _sorted_targets(masks.detach().flatten(1), self.covered)
        weight: float = _WEIGHT * _GROWTH ** (step * self.stretch)
        return weight * (masks.flatten(1) - targets).square().mean(1)

    def move(self, gradient: Tensor, step: int) -> None:
        self.speed = _MOMENTUM * self.speed + (1 - _MOMENTUM) * gradient
        self.parameters = (self.parameters - self.rate * self.speed).clamp(0, 1)


def _sorted_targets(values: Tensor, covered: Tensor) -> Tensor:
    """Return each pixel's target (m, P): 1 for the `covered` (m,) largest values, else 0; equal values share theirs."""
    ordered = values.sort(dim=1, descending=True).values
    last = ordered.gather(1, (covered.ceil().long() - 1).clamp(0, values.shape[1] - 1)[:, None])
    above, tied = values > last + _EPSILON, (values - last).abs() <= _EPSILON
    share = (covered[:, None] - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)
    return above.to(values) + tied * share.clamp(0, 1)


def _pyramid(inputs: Tensor) -> Tensor:
    """Return the images at each level, (m, levels, C, H, W), from the most blurred to the image itself."""
    largest = _LARGEST_BLUR * min(inputs.shape[-2:]) / _SIDE
    return torch.stack([blurred(inputs, largest * (1 - level / (_LEVELS - 1))) for level in range(_LEVELS)], 1)


def _sharpened(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Return images (m, C, H, W) whose sharpness at each pixel is the mask, interpolated between pyramid levels."""
    height = masks.clamp(0, 1) * (_LEVELS - 1)
    below = height.detach().floor().clamp(max=_LEVELS - 2)
    level = below.long()[:, None, None].expand(-1, 1, *pyramid.shape[2:])
    lower, upper = pyramid.gather(1, level)[:, 0], pyramid.gather(1, level + 1)[:, 0]
    return lower + (height - below)[:, None] * (upper - lower)


def _taps(sigma: float, stride: int) -> Tensor:
    """Return the weight of each neighbour in each pixel of a cell, (reach, reach, stride, stride)."""
    radius = 1 + math.ceil(sigma / stride)
    pixel = torch.arange(stride, dtype=torch.float64, device="cpu") - (stride - 1) / 2
    neighbour = stride * torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")
    along = (pixel[None, :] - neighbour[:, None]).square()
    distance = (along[:, None, :, None] + along[None, :, None, :]).sqrt()
    return torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0).square())


class _SmoothMaximum(torch.autograd.Function):
    """m(u) = sum_j q_j softmax_j(20 q_j), one neighbour at a time, which needs no more memory than the mask.

    With S = sum_j exp(20 q_j) the derivative is dm / dq_j = exp(20 q_j) (1 + 20 (q_j - m)) / S.
    """

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, weights: Tensor) -> Tensor:
        """Return the mask (m, h * stride, w * stride) of parameters (m, h, w)."""
        total = parameters.new_zeros(*parameters.shape, *weights.shape[2:])
        weighted = torch.zeros_like(total)
        for (row, column), rows, columns in _neighbours(parameters, weights):
            value = parameters[:, rows][:, :, columns][..., None, None] * weights[row, column]
            power = (_COLDNESS * value).exp_()
            total += power
            weighted.addcmul_(value, power)
        mask = weighted / total
        ctx.save_for_backward(parameters, weights, total, mask)
        return mask.transpose(2, 3).flatten(3).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient with respect to the parameters, (m, h, w)."""
        parameters, weights, total, mask = ctx.saved_tensors
        down, across = weights.shape[2:]
        height, width = parameters.shape[1:]
        scaled = gradient.reshape(-1, height, down, width, across).transpose(2, 3) / total
        offset = 1 / _COLDNESS - mask
        result = torch.zeros_like(parameters)
        for (row, column), rows, columns in _neighbours(parameters, weights):
            value = parameters[:, rows][:, :, columns][..., None, None] * weights[row, column]
            power = (_COLDNESS * value).exp_()
            term = power.mul_(value.add_(offset)).mul_(scaled).mul_(_COLDNESS * weights[row, column])
            result.index_add_(2, columns, torch.zeros_like(result).index_add_(1, rows, term.sum((3, 4))))
        return result, None


def _neighbours(parameters: Tensor, weights: Tensor) -> Iterator[tuple[tuple[int, int], Tensor, Tensor]]:
    """Yield each position in the window, with the rows (h,) and columns (w,) of the parameters at that position.

    The parameters are mirrored at the border, so that a parameter there covers as many pixels as any other.
    """
    radius = weights.shape[0] // 2
    rows, columns = (_mirrored(side, radius).to(parameters.device) for side in parameters.shape[1:])
    for row, column in product(range(weights.shape[0]), range(weights.shape[1])):
        yield (row, column), rows[row], columns[column]


def _mirrored(side: int, radius: int) -> Tensor:
    """Return the index of each cell shifted by -radius to radius, mirrored at the border, (2 radius + 1, side)."""
    index = (torch.arange(side, device="cpu") + torch.arange(-radius, radius + 1, device="cpu")[:, None]) % (2 * side)
    return torch.minimum(index, 2 * side - 1 - index)
