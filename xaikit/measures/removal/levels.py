"""Cuts: which pixels of a map each level removes.

    ascending   the map's values, sorted once for all curves
    ranks       position of each pixel, lowest value first; descending ranks keep the order within ties
    count_j     number of pixels removed at level j: floor(P j / J), or those below a value
    split_j     whether the cut falls between two equal values, so that the order of ties matters

Every thresholding rule becomes a count along one sorted order; no cut compares values with a quantile.

Shapes: maps (Q, H, W), P = H * W pixels; ranks (R, Q, P), one per order of ties; counts and splits (Q, T).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from xaikit.images.pixel_order import ranks, removed
from xaikit.measures.removal.protocol import KeepProtocol

_BINS = 256


@dataclass(frozen=True)
class SortedMaps:
    """Sorted maps.

    Args:
        ascending: (Q, P) values in ascending order.
        ranks: (R, Q, P) int32, position of each pixel in ascending order, for each order of ties.
    """

    ascending: Tensor
    ranks: Tensor

    @classmethod
    def of(cls, maps: Tensor, shuffles: Tensor | None = None) -> SortedMaps:
        """Sort maps.

        Args:
            maps: (Q, H, W) finite values.
            shuffles: (R, Q, P) permutations that decide the order of ties; None is row-major.
        """
        positions = ranks(maps)[None] if shuffles is None else torch.stack([_shuffled(maps, row) for row in shuffles])
        flat = maps.flatten(1)
        return cls(torch.empty_like(flat).scatter_(1, positions[0].long(), flat), positions)

    @cached_property
    def descending_ranks(self) -> Tensor:
        """(R, Q, P) int32, position of each pixel in descending order; ties go in the same order as in ascending."""
        starts, ends = self._groups
        shift = self.ascending.shape[1] - starts - ends
        return torch.stack([order + shift.gather(1, order.long()).int() for order in self.ranks])

    @cached_property
    def tie_share(self) -> Tensor:
        """(Q,) float64, size of the largest group of equal values, divided by P."""
        starts, ends = self._groups
        return (ends - starts).amax(1).double() / self.ascending.shape[1]

    @cached_property
    def zeros(self) -> Tensor:
        """(Q, 1) number of values that are zero."""
        return (self.ascending == 0).sum(1, keepdim=True)

    @cached_property
    def _groups(self) -> tuple[Tensor, Tensor]:
        """Start and end (exclusive), both (Q, P), of the group of equal values around each sorted position."""
        return tuple(torch.searchsorted(self.ascending, self.ascending, side=side) for side in ("left", "right"))  # type: ignore[return-value]


@dataclass(frozen=True)
class Cuts:
    """Where the levels cut the sorted pixels of each map.

    Args:
        ranks: (R, Q, P) position of each pixel in the order of removal, for each order of ties.
        counts: (Q, T) int64, number of pixels that the level removes.
        blank: (Q, T) int64, number of pixels whose mask is zero; for soft masks this includes zeros of the map.
        split: (Q, T) bool, True where the last removed pixel and the first kept pixel have the same value.
        full: (Q,) bool, True where the map is 1 everywhere.
    """

    ranks: Tensor
    counts: Tensor
    blank: Tensor
    split: Tensor
    full: Tensor


def cut(maps: SortedMaps, protocol: KeepProtocol, steps: Sequence[Fraction] | None = None) -> Cuts:
    """Return where each threshold cuts the sorted maps.

    Args:
        maps: sorted maps with values in [0, 1].
        protocol: threshold, order and mask.
        steps: the thresholds; None means all of the protocol's.
    """
    ascending = maps.ascending
    counts = _counts(ascending, protocol, protocol.steps if steps is None else steps)
    blank = torch.maximum(counts, maps.zeros) if protocol.mask == "soft" else counts
    lowest = protocol.order == "lowest"
    return Cuts(
        ranks=maps.ranks if lowest else maps.descending_ranks,
        counts=counts,
        blank=blank,
        split=_splits(ascending if lowest else ascending.flip(1), blank),
        full=ascending[:, 0] == 1,
    )


def otsu(ascending: Tensor) -> Tensor:
    """Return Otsu's threshold (Q, 1) of each map, on 256 bins of [0, 1].

    Args:
        ascending: (Q, P) values in [0, 1], in any order.
    """
    bins = (ascending.double() * _BINS).long().clamp(max=_BINS - 1)
    shares = torch.zeros(len(bins), _BINS, dtype=torch.float64, device=bins.device)
    shares.scatter_add_(1, bins, torch.full_like(ascending, 1 / bins.shape[1], dtype=torch.float64))
    centres = (torch.arange(_BINS, device=bins.device) + 0.5) / _BINS
    below, mass = shares.cumsum(1), (shares * centres).cumsum(1)
    spread = (mass[:, -1:] * below - mass).square() / (below * (1 - below)).clamp(min=1e-12)
    return ((spread.argmax(1, keepdim=True) + 1) / _BINS).to(ascending.dtype)


def _shuffled(maps: Tensor, shuffle: Tensor) -> Tensor:
    """Return ranks (Q, P) in which ties follow the permutation `shuffle` (Q, P) of the pixels."""
    shuffled = ranks(maps.flatten(1).gather(1, shuffle).reshape(maps.shape))
    return torch.empty_like(shuffled).scatter_(1, shuffle, shuffled)


def _counts(ascending: Tensor, protocol: KeepProtocol, steps: Sequence[Fraction]) -> Tensor:
    maps, pixels = ascending.shape
    if protocol.threshold == "area":
        counts = [removed(step.numerator, step.denominator, pixels) for step in steps]
        return torch.tensor(counts, device=ascending.device).repeat(maps, 1)
    if protocol.threshold == "otsu":
        return torch.searchsorted(ascending, otsu(ascending))
    thresholds = torch.tensor([float(step) for step in steps], dtype=ascending.dtype, device=ascending.device)
    scale = ascending[:, -1:] if protocol.threshold == "value-of-max" else torch.ones_like(ascending[:, -1:])
    return torch.searchsorted(ascending, scale * thresholds)


def _splits(ordered: Tensor, counts: Tensor) -> Tensor:
    last = ordered.shape[1] - 1
    last_removed = ordered.gather(1, (counts - 1).clamp(min=0))
    first_kept = ordered.gather(1, counts.clamp(max=last))
    return (counts > 0) & (counts <= last) & (last_removed == first_kept)
