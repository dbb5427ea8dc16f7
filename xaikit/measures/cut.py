"""Cuts: which pixels of a map each level removes.

    ascending   the map's values, sorted once for all levels
    count_j     how many of the lowest go at level j: floor(P j / J), or those below a value
    split_j     the cut falls between two equal values, so that the order of ties decides

Every rule of thresholding becomes a count along one sorted order; no cut compares values with a quantile.

Shapes: maps (Q, H, W), P = H * W pixels; ranks (R, Q, P), one per order of ties; counts and splits (Q, T).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.core.perturb import ranks, removed
from xaikit.measures.protocol import KeepProtocol

__all__ = ["Cuts", "cut", "otsu"]

_BINS = 256


@dataclass(frozen=True)
class Cuts:
    """Where the levels cut the sorted pixels of each map.

    Args:
        ranks: (R, Q, P) place of each pixel in ascending order, for each order of ties.
        counts: (Q, T) int64, the lowest pixels that the level removes.
        blank: (Q, T) int64, pixels whose mask is zero; soft masks count zeros of the map too.
        split: (Q, T) bool, the last pixel gone and the first that stays have the same value.
        full: (Q,) bool, the map is 1 everywhere.
        tie_share: (Q,) float64, size of the largest group of equal values over P.
    """

    ranks: Tensor
    counts: Tensor
    blank: Tensor
    split: Tensor
    full: Tensor
    tie_share: Tensor


def cut(maps: Tensor, protocol: KeepProtocol, shuffles: Tensor | None = None) -> Cuts:
    """Sort each map and place the cuts of all levels.

    Args:
        maps: (Q, H, W) finite, in [0, 1].
        protocol: threshold, levels and mask.
        shuffles: (R, Q, P) permutations that decide the order of ties; None is row-major.
    """
    places = ranks(maps)[None] if shuffles is None else torch.stack([_shuffled(maps, one) for one in shuffles])
    flat = maps.flatten(1)
    ascending = torch.empty_like(flat).scatter_(1, places[0].long(), flat)
    counts = _counts(ascending, protocol)
    blank = counts
    if protocol.mask == "soft":
        blank = torch.maximum(counts, (flat == 0).sum(1, keepdim=True))
    return Cuts(places, counts, blank, _splits(ascending, blank), ascending[:, 0] == 1, _tie_share(ascending))


def otsu(ascending: Tensor) -> Tensor:
    """Return per map the value (Q, 1) that best parts its values in two, on 256 bins of [0, 1].

    Args:
        ascending: (Q, P) values in [0, 1], in any order.
    """
    places = (ascending.double() * _BINS).long().clamp(max=_BINS - 1)
    shares = torch.zeros(len(places), _BINS, dtype=torch.float64, device=places.device)
    shares.scatter_add_(1, places, torch.full_like(ascending, 1 / places.shape[1], dtype=torch.float64))
    centres = (torch.arange(_BINS, device=places.device) + 0.5) / _BINS
    below, mass = shares.cumsum(1), (shares * centres).cumsum(1)
    spread = (mass[:, -1:] * below - mass).square() / (below * (1 - below)).clamp(min=1e-12)
    return ((spread.argmax(1, keepdim=True) + 1) / _BINS).to(ascending.dtype)


def _shuffled(maps: Tensor, shuffle: Tensor) -> Tensor:
    """Return ranks (Q, P) in which ties follow the permutation (Q, P) of their pixels."""
    mixed = maps.flatten(1).gather(1, shuffle).reshape(maps.shape)
    places = ranks(mixed)
    return torch.empty_like(places).scatter_(1, shuffle, places)


def _counts(ascending: Tensor, protocol: KeepProtocol) -> Tensor:
    count, positions = ascending.shape
    steps = range(protocol.levels + 1)
    if protocol.threshold == "area":
        numbers = [removed(j, protocol.levels, positions) for j in steps]
        return torch.tensor(numbers, device=ascending.device).repeat(count, 1)
    if protocol.threshold == "otsu":
        return torch.searchsorted(ascending, otsu(ascending))
    thresholds = torch.tensor([j / protocol.levels for j in steps], dtype=ascending.dtype, device=ascending.device)
    scale = ascending[:, -1:] if protocol.threshold == "value-of-max" else torch.ones_like(ascending[:, -1:])
    return torch.searchsorted(ascending, scale * thresholds)


def _splits(ascending: Tensor, counts: Tensor) -> Tensor:
    last = ascending.shape[1] - 1
    gone = ascending.gather(1, (counts - 1).clamp(min=0))
    stays = ascending.gather(1, counts.clamp(max=last))
    return (counts > 0) & (counts <= last) & (gone == stays)


def _tie_share(ascending: Tensor) -> Tensor:
    positions = ascending.shape[1]
    ends = torch.searchsorted(ascending, ascending, right=True)
    groups = ends - torch.arange(positions, device=ascending.device)
    return groups.amax(1).double() / positions
