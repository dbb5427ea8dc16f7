"""Extremal perturbation: the smooth mask of a fixed area that keeps the score highest.

    max_p  score(m (x) x) - w_t * mean_u (sort(m)_u - r_u)^2         r = 0 for the lowest pixels, 1 for the top share a
    m(u) = sum_j q_j softmax_j(20 q_j),  q_j = p_j k(|u - c_j| / sigma),  k(z) = exp(-2 max(z - 1/2, 0)^2)
    m (x) x = the image blurred by (1 - m) * 20 pixels, from a pyramid of 8 levels
    w_t = 300 * 1.0052^t;  momentum 0.9, rate 0.01, p clamped to [0, 1];  every other step sees the image mirrored
    score in units of which the whole image is worth 80 more than the blurred one

The parameters p lie on a grid, one each `stride` pixels with the centres c_j; m takes a smooth maximum over the
neighbours, so no mask has detail finer than sigma. `variant="delete"` looks for the mask whose removal lowers the score
most, "dual" for the one that does both: its objective holds the difference of the two scores. Of several areas the
masks are averaged. Lengths are those of an image with a short side of 224.

A mask whose area is more than 3 points off, as after few steps, is flagged `area-missed`.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) in [0, 1].
Units:  share of the image's detail that is kept (or taken away).
Source: Fong, Patrick & Vedaldi, ICCV 2019, sections 3 and 4, arXiv:1910.08485; constants of the authors' TorchRay.
Departs from source: the score has that unit and the weight grows faster (the authors: logits as they come, 1.0035), so
    that early on what carries the class outweighs the area, in a network of small logits too; the area is counted
    inside the image, so that it is what was asked for, and the parameters are mirrored at its border, where the source
    counts a margin too; pixels of equal value share their targets, where a sort picks some by their position; the
    first step is damped as the others are; the search begins with the unchanged image also for "delete" (the authors:
    p = 1, which there is the blurred image, whose gradients do not tell what carries the class); lengths follow the
    image's size, the rate the number of steps and of parameters (32 x 32 at 224), the growth that of steps.
"""

from __future__ import annotations

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
_STEPS, _FEWEST, _CELLS = 800, 100, 32**2
_RATE, _MOMENTUM = 0.01, 0.9
_WEIGHT, _GROWTH = 300.0, 1.0052
_WORTH, _LEAST_WORTH = 80.0, 0.05
_TIED = 1e-6
_NEAR = 0.03  # of the image, that a mask's area may be off


@METHODS.register
@dataclass(frozen=True)
class ExtremalPerturbation(InputMethod):
    """Smooth mask of a fixed area that keeps the score highest.

    Args:
        areas: share of the image that the mask covers, or several, whose masks are averaged.
        steps: of the descent; fewer are longer ones, and fewer than 100 stop early.
        variant: "preserve" the score by what the mask keeps, "delete" it by what the mask takes away, or "dual", both.
        sigma: pixels over which a mask fades; None is 21 at 224.
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
        """Refuse parameters that do not go together."""
        if not self._areas:
            raise BadInput("areas: expected at least one share, got none; give for example 0.1")

    def compute(self, batch: Batch) -> Values:
        """Return the mean of the masks over the areas, (n, H, W)."""
        sigma = self.sigma or _SIGMA * min(batch.size) / _SIDE
        areas = torch.tensor(self._areas, dtype=batch.inputs.dtype, device=batch.inputs.device)

        def begin(rows: Tensor, places: Tensor) -> Search:
            search = _Extremal(self, batch.inputs[rows], areas[places], sigma)
            search.pull = self._pull(batch, search.pyramid[:, 0], rows)
            return search

        masks = search_masks(batch, len(areas), self.steps, begin)
        missed = (masks.mean((2, 3)) - areas).abs().amax(1)
        return Values(
            masks.mean(1),
            flags=[{"area-missed"} if far else set() for far in (missed > _NEAR).tolist()],
            params={"sigma": sigma},
            diagnostics={"area error": missed},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward for each step and area, two for "dual"; the clean and the blurred image a mask."""
        passes = self.steps * len(self._areas) * (2 if self.variant == "dual" else 1)
        return Cost(1 + 2 * len(self._areas) + passes, passes)

    def _pull(self, batch: Batch, blurred_inputs: Tensor, rows: Tensor) -> Tensor:
        """Return what the score counts for, (m,): sharpness as a whole is worth the same in every network."""
        clean = batch.scores_of(batch.inputs[rows], rows)
        worth = (clean - batch.scores_of(blurred_inputs, rows)).abs()
        return _WORTH / torch.maximum(worth, _LEAST_WORTH * clean.abs()).clamp(min=_TIED)

    @property
    def _areas(self) -> tuple[float, ...]:
        return self.areas if isinstance(self.areas, tuple) else (self.areas,)


class _Extremal(Search):
    """The masks of one portion, from the one that leaves the image as it is."""

    def __init__(self, method: ExtremalPerturbation, inputs: Tensor, areas: Tensor, sigma: float) -> None:
        stride = max(1, round(sigma / _STRIDES))
        self.weights = _taps(sigma, stride).to(inputs)
        self.size = (inputs.shape[2], inputs.shape[3])
        self.pyramid = _pyramid(inputs)
        self.covered = areas * self.size[0] * self.size[1]
        self.variant = method.variant
        self.pull = inputs.new_ones(len(inputs))
        self.stretch = _STEPS / max(method.steps, _FEWEST)
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
        shown = [(_sharpened(self.pyramid, sharp), pull) for sharp, pull in chosen]
        return [View(one.flip(3) if step % 2 == 0 else one, pull) for one, pull in shown]

    def penalty(self, parameters: Tensor, masks: Tensor, step: int) -> Tensor:
        wanted = _sorted_targets(masks.detach().flatten(1), self.covered)
        weight: float = _WEIGHT * _GROWTH ** (step * self.stretch)
        return weight * (masks.flatten(1) - wanted).square().mean(1)

    def move(self, gradient: Tensor, step: int) -> None:
        self.speed = _MOMENTUM * self.speed + (1 - _MOMENTUM) * gradient
        self.parameters = (self.parameters - self.rate * self.speed).clamp(0, 1)


def _sorted_targets(values: Tensor, covered: Tensor) -> Tensor:
    """Return each pixel's entry (m, P) of the sorted template of `covered` (m,) ones; equal values share theirs."""
    order = values.sort(dim=1, descending=True).values
    last = order.gather(1, (covered.ceil().long() - 1).clamp(0, values.shape[1] - 1)[:, None])
    above, tied = values > last + _TIED, (values - last).abs() <= _TIED
    share = (covered[:, None] - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True)
    return above.to(values) + tied * share.clamp(0, 1)


def _pyramid(inputs: Tensor) -> Tensor:
    """Return the image at each level of sharpness, (m, levels, C, H, W), from the most blurred to itself."""
    largest = _LARGEST_BLUR * min(inputs.shape[-2:]) / _SIDE
    return torch.stack([blurred(inputs, largest * (1 - level / (_LEVELS - 1))) for level in range(_LEVELS)], 1)


def _sharpened(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Return the image (m, C, H, W) as sharp in each pixel as its mask says, between two levels of the pyramid."""
    height = masks.clamp(0, 1) * (_LEVELS - 1)
    below = height.detach().floor().clamp(max=_LEVELS - 2)
    level = below.long()[:, None, None].expand(-1, 1, *pyramid.shape[2:])
    lower, upper = pyramid.gather(1, level)[:, 0], pyramid.gather(1, level + 1)[:, 0]
    return lower + (height - below)[:, None] * (upper - lower)


def _taps(sigma: float, stride: int) -> Tensor:
    """Return what each neighbour counts in each pixel of a cell, (reach, reach, stride, stride)."""
    radius = 1 + math.ceil(sigma / stride)
    pixel = torch.arange(stride, dtype=torch.float64, device="cpu") - (stride - 1) / 2
    neighbour = stride * torch.arange(-radius, radius + 1, dtype=torch.float64, device="cpu")
    along = (pixel[None, :] - neighbour[:, None]).square()
    distance = (along[:, None, :, None] + along[None, :, None, :]).sqrt()
    return torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0).square())


class _SmoothMaximum(torch.autograd.Function):
    """m(u) = sum_j q_j softmax_j(20 q_j), one neighbour after the other, so that memory stays that of the mask.

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
        return _spread(mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by the parameters."""
        parameters, weights, total, mask = ctx.saved_tensors
        down, across = weights.shape[2:]
        tall, wide = parameters.shape[1:]
        arriving = gradient.reshape(-1, tall, down, wide, across).transpose(2, 3) / total
        offset = 1 / _COLDNESS - mask
        found = torch.zeros_like(parameters)
        for (row, column), rows, columns in _neighbours(parameters, weights):
            value = parameters[:, rows][:, :, columns][..., None, None] * weights[row, column]
            power = (_COLDNESS * value).exp_()
            part = power.mul_(value.add_(offset)).mul_(arriving).mul_(_COLDNESS * weights[row, column])
            along = torch.zeros_like(found).index_add_(1, rows, part.sum((3, 4)))
            found.index_add_(2, columns, along)
        return found, None


def _neighbours(parameters: Tensor, weights: Tensor) -> Iterator[tuple[tuple[int, int], Tensor, Tensor]]:
    """Yield each place of the window, and which rows (h,) and columns (w,) of the parameters it shows there.

    Outside the image the parameters are mirrored, so that one at the border covers as many pixels as any other.
    """
    radius = weights.shape[0] // 2
    rows, columns = (_mirrored(side, radius).to(parameters.device) for side in parameters.shape[1:])
    for row, column in product(range(weights.shape[0]), range(weights.shape[1])):
        yield (row, column), rows[row], columns[column]


def _mirrored(side: int, radius: int) -> Tensor:
    """Return the cells that lie -radius to radius further than each, (2 radius + 1, side)."""
    place = (torch.arange(side, device="cpu") + torch.arange(-radius, radius + 1, device="cpu")[:, None]) % (2 * side)
    return torch.minimum(place, 2 * side - 1 - place)


def _spread(cells: Tensor) -> Tensor:
    """Return (m, h * stride, w * stride) of cells (m, h, w, stride, stride)."""
    count, tall, wide, down, across = cells.shape
    return cells.transpose(2, 3).reshape(count, tall * down, wide * across)
