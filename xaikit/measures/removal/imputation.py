"""Noisy linear imputation: removed pixels become the weighted mean of their neighbours, kept or removed.

    v_p = sum_q w_pq v_q / sum_q w_pq      q: up to 8 neighbours in the image, w = 1/6 if adjacent, 1/12 if diagonal
    v_p = x_p                              where the pixel is kept
    filled = v + 0.01 * noise              where it is removed

The removed pixels form a symmetric positive definite system with diagonal sum_q w_pq and off-diagonal entries -w_pq.
It is solved by matrix-free conjugate gradients for all images, levels, methods and channels of a portion at once. Each
system has its own step and stopping test, so that its values do not depend on the others.

Shapes: inputs (n, C, H, W) in the network's own coordinates; known (n, H, W) bool, with at least one pixel per image.
Source: Rong et al. (ROAD), ICML 2022, arXiv:2202.00449.
Departs from source: solved to a residual of 1e-5 instead of to rounding; the error stays well below the noise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 0.01
_RESIDUAL = 1e-5
_LEAST_LIMIT = 400
_BETWEEN_CHECKS = 8
_SLAB = 2**18  # length of the solver's vectors on a CPU, so that they stay in its cache
_SMALLEST = 1e-30


def impute(inputs: Tensor, known: Tensor) -> Tensor:
    """Return inputs with the pixels outside `known` set to the weighted mean of their neighbours, without noise."""
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
    """Solve S systems for their removed pixels (S, Q), on a flat grid with a border of zeros, by conjugate gradients.

    Args:
        known_sums: (S, Q) weighted sum of each removed pixel's known neighbours.
        weights: (1, Q) total weight of each pixel's neighbours in the image.
        removed: (S, Q) 1 where a pixel is solved for.
        width: width of the grid with its border.
        limit: largest number of iterations.
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
                rows, values, residual, direction, power, removed = (tensor[unsolved] for tensor in state)
        applied = (weights * direction).sub_(_neighbours(direction, width)).mul_(removed)
        step = power / _dot(direction, applied).clamp(min=_SMALLEST)
        values.addcmul_(step, direction)
        residual.addcmul_(step, applied, value=-1)
        before, power = power, _dot(residual, residual)
        direction.mul_(power / before.clamp(min=_SMALLEST)).add_(residual)
    solution[rows] = values
    return solution


def _neighbours(values: Tensor, width: int) -> Tensor:
    """Return the weighted sum of each pixel's neighbours on a flat grid (S, Q); its border holds unused values."""
    across = torch.add(values[:, :-2], values[:, 2:]).add_(values[:, 1:-1], alpha=2)
    down = torch.add(across[:, : -2 * width], across[:, 2 * width :]).add_(across[:, width:-width], alpha=2)
    inner = down.sub_(values[:, width + 1 : -width - 1], alpha=4).div_(12)
    return F.pad(inner, (width + 1, width + 1))


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products of rows (S, Q), as (S, 1)."""
    return (left * right).sum(1, keepdim=True)
