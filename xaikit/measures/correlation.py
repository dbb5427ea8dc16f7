"""Correlation of rows, of their values or of their ranks.

    pearson      sum (a - mean a)(b - mean b) / (|a - mean a| |b - mean b|)
    ranks        position in ascending order from 0; equal values share their mean position
    spearman     pearson of the ranks
    likeness     1 where both rows are equal, else 0 where either is constant, else spearman

pearson and spearman of a constant row are NaN.

Shapes: rows (..., P), floating; results (...).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_FLAT = 1e-12  # a centred row shorter than this share of the row's norm is rounding error: the row is constant


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the linear correlation of two sets of rows; NaN where a row is constant or not finite."""
    return (_standard(first) * _standard(second)).sum(-1).clamp(-1, 1)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return the rank correlation of two sets of rows; NaN where a row is constant or not finite."""
    return pearson(ranks(first), ranks(second))


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return the rank correlation of rows that may be constant: 1 if they are equal, else 0 if either is constant.

    NaN where a row is not finite.
    """
    equal = (first == second).all(-1)
    finite = first.isfinite().all(-1) & second.isfinite().all(-1)
    return spearman(first, second).nan_to_num(0.0).masked_fill(equal, 1.0).masked_fill(~finite, torch.nan)


def ranks(rows: Tensor) -> Tensor:
    """Return the float64 rank of each value in its row; ties share the mean rank; NaN in rows that are not finite."""
    ordered, order = rows.sort(dim=-1)
    first, last = tie_bounds(ordered)
    positions = torch.empty_like(rows, dtype=torch.float64).scatter_(-1, order, (first + last).double() / 2)
    return positions.masked_fill(~rows.isfinite().all(-1, keepdim=True), torch.nan)


def tie_bounds(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and last index of the run of equal values around each entry of sorted rows."""
    count = ordered.shape[-1]
    indices = torch.arange(count, device=ordered.device).expand(ordered.shape)
    changes = ordered[..., 1:] != ordered[..., :-1]
    first = indices.where(F.pad(changes, (1, 0), value=True), 0).cummax(-1).values
    last = indices.where(F.pad(changes, (0, 1), value=True), count - 1).flip(-1).cummin(-1).values.flip(-1)
    return first, last


def _standard(rows: Tensor) -> Tensor:
    """Return rows centred and scaled to norm 1; NaN where a row is constant."""
    rows = rows.double()
    centred = rows - rows.mean(-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    standard: Tensor = centred / length
    return standard.masked_fill(length <= _FLAT * rows.norm(dim=-1, keepdim=True), torch.nan)
