"""Noisy linear imputation: removed pixels become the weighted mean of their neighbours, known or removed themselves.

    v_p = sum_q w_pq v_q / sum_q w_pq      q: the up to 8 neighbours in the image, w = 1/6 beside and 1/12 across
    v_p = x_p                              where the pixel stays
    filled = v + 0.01 * noise              where it is removed

The removed pixels make a symmetric positive definite system, diagonal sum_q w_pq and -w_pq beside it, solved by
conjugate gradients without a matrix, for all images, levels, methods and channels of a portion at once; each has its
own step and stops by itself, so that its values do not depend on the others.

Shapes: inputs (n, C, H, W) in the network's own coordinates; known (n, H, W) bool, some of each image.
Source: Rong et al. (ROAD), ICML 2022, arXiv:2202.00449.
Departs from source: solved to a residual of 1e-5 and not to rounding; the error stays well under the noise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 0.01
_RESIDUAL = 1e-5
_LEAST_LIMIT = 400
_BETWEEN_CHECKS = 8
_SLAB = 2**18  # numbers that one vector of the solver has on a CPU, to stay in its cache
_SMALLEST = 1e-30


def impute(inputs: Tensor, known: Tensor) -> Tensor:
    """Return inputs whose pixels outside `known` are the weighted mean of their neighbours; no noise."""
    count, channels, *size = inputs.shape
    width = size[1] + 2
    removed = _bordered(~known).to(inputs.dtype).repeat_interleave(channels, 0)
    weights = _neighbours(_bordered(inputs.new_ones(1, *size)), width)
    known_sums = _neighbours(_bordered(inputs.flatten(0, 1)) * (1 - removed), width) * removed
    slab = len(removed) if inputs.is_cuda else max(1, _SLAB // removed.shape[1])
    limit = max(_LEAST_LIMIT, 2 * max(size))
    solved = [
        _solve(sums, weights, mask, width, limit)
        for sums, mask in zip(torch.split(known_sums, slab), torch.split(removed, slab), strict=True)
    ]
    filled = torch.cat(solved).reshape(count, channels, -1, width)[..., 1:-1, 1:-1]
    return torch.where(known[:, None], inputs, filled)


def _bordered(images: Tensor) -> Tensor:
    """Return images (S, H, W) with a border of zeros, on a flat grid (S, Q)."""
    return F.pad(images, (1, 1, 1, 1)).flatten(1)


def _solve(known_sums: Tensor, weights: Tensor, removed: Tensor, width: int, limit: int) -> Tensor:
    """Return the removed pixels (S, Q) of S systems on a flat grid with a border of zeros, by conjugate gradients.

    Args:
        known_sums: (S, Q) weighted sum of each removed pixel's known neighbours.
        weights: (1, Q) weight of all neighbours in the image.
        removed: (S, Q) 1 where a pixel is solved for.
        width: of the grid with its border.
        limit: most iterations.
    """
    solution = torch.zeros_like(known_sums)
    rows = torch.arange(len(solution), device=solution.device)
    values, residual = torch.zeros_like(known_sums), known_sums.clone()
    direction, power = residual.clone(), _dot(residual, residual)
    for iteration in range(limit):
        if iteration % _BETWEEN_CHECKS == 0:
            solution[rows] = values
            unsolved = residual.abs().amax(1) > _RESIDUAL
            if not unsolved.any():
                return solution
            if not unsolved.all():
                state = (rows, values, residual, direction, power, removed)
                rows, values, residual, direction, power, removed = (one[unsolved] for one in state)
        applied = (weights * direction).sub_(_neighbours(direction, width)).mul_(removed)
        step = power / _dot(direction, applied).clamp(min=_SMALLEST)
        values.addcmul_(step, direction)
        residual.addcmul_(step, applied, value=-1)
        before, power = power, _dot(residual, residual)
        direction.mul_(power / before.clamp(min=_SMALLEST)).add_(residual)
    solution[rows] = values
    return solution


def _neighbours(values: Tensor, width: int) -> Tensor:
    """Return the weighted sum of each pixel's neighbours on a flat grid (S, Q); on its border nothing that is used."""
    across = torch.add(values[:, :-2], values[:, 2:]).add_(values[:, 1:-1], alpha=2)
    down = torch.add(across[:, : -2 * width], across[:, 2 * width :]).add_(across[:, width:-width], alpha=2)
    inner = down.sub_(values[:, width + 1 : -width - 1], alpha=4).div_(12)
    return F.pad(inner, (width + 1, width + 1))


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of rows (S, Q), as (S, 1)."""
    return (left * right).sum(1, keepdim=True)
