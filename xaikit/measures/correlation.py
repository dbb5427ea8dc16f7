"""Correlation of rows: how far two lists of numbers, or the orders they stand for, agree.

    pearson      sum (a - mean a)(b - mean b) / (|a - mean a| |b - mean b|)
    ranks        place in ascending order from 0; equal values share the mean of their places
    spearman     pearson of the ranks
    likeness     1 where both rows are equal, 0 where one of them is constant, else spearman

A constant row has no order: pearson and spearman are NaN there.

Shapes: rows (..., P), floating; results (...).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FLAT = 1e-12  # of a row's length, under which what is left of it without its mean is rounding


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return the linear correlation of two sets of rows; NaN where a row is constant or not finite."""
    return (_standard(first) * _standard(second)).sum(-1).clamp(-1, 1)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation of the orders; NaN where a row is constant or not finite."""
    return pearson(ranks(first), ranks(second))


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return how much of the first map's order the second one has, for maps that may be constant.

    A map that does not change is like itself, whatever it is; one that became constant has kept nothing. NaN where a
    row is not finite.
    """
    equal = (first == second).all(-1)
    finite = first.isfinite().all(-1) & second.isfinite().all(-1)
    return spearman(first, second).nan_to_num(0.0).masked_fill(equal, 1.0).masked_fill(~finite, torch.nan)


def ranks(rows: Tensor) -> Tensor:
    """Return each value's place in its row, float64; equal values share the mean; NaN in rows that are not finite."""
    ordered, order = rows.sort(dim=-1)
    first, last = tie_bounds(ordered)
    places = torch.empty_like(rows, dtype=torch.float64).scatter_(-1, order, (first + last).double() / 2)
    return places.masked_fill(~rows.isfinite().all(-1, keepdim=True), torch.nan)


def tie_bounds(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last place of the group of equal values that each entry of sorted rows belongs to."""
    count = ordered.shape[-1]
    places = torch.arange(count, device=ordered.device).expand(ordered.shape)
    changes = ordered[..., 1:] != ordered[..., :-1]
    first = places.where(F.pad(changes, (1, 0), value=True), 0).cummax(-1).values
    last = places.where(F.pad(changes, (0, 1), value=True), count - 1).flip(-1).cummin(-1).values.flip(-1)
    return first, last


def _standard(rows: Tensor) -> Tensor:
    """Return rows without their mean and of length 1; NaN where a row is constant."""
    rows = rows.double()
    centred = rows - rows.mean(-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    standard: Tensor = centred / length
    return standard.masked_fill(length <= _FLAT * rows.norm(dim=-1, keepdim=True), torch.nan)
