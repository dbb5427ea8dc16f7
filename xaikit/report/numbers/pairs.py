"""All pairs of methods compared on the images that both explained: mean difference, interval and paired test.

    d_i   = first_i - second_i
    test  p = share of sign flips s in {-1, 1}^N with |sum_i s_i d_i| >= |sum_i d_i|
    sums  sum_i w_i d_i = sum_i w_i first_i - sum_i w_i second_i, for weights w that are signs or numbers of draws

The sign flips test the mean, which is what the tables print; for values 0 and 1 this is McNemar's test. For up to 12
images all flips are enumerated, for more they are random. By the last line M sums serve all pairs of M methods, for the
images that the same methods know; the few others keep their differences.

Shapes: values (N, M) for N images and M methods, NaN where unknown; P = M (M - 1) / 2 pairs in the order of
`numpy.triu_indices`. All results are deterministic, because the seeds are arguments.
Source: Fisher, The Design of Experiments, 1935.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xaikit.report.numbers.statistics import percentiles, ratio, signs, weights

DRAWS = 2000
"""Number of resamples of the images."""

_ROUNDING = 1e-9  # sums that differ by less than this share of the largest difference are equal
_FEW = 0.02  # images that fewer than this share knows in the same way keep their differences


@dataclass(frozen=True)
class Pairs:
    """The differences of each method from every later one.

    Args:
        mean: (P,) mean difference; NaN without a common image.
        low: (P,) lower end of the 95 % percentile interval of the mean; NaN for fewer than two images.
        high: (P,) upper end.
        p: (P,) two-sided p of equal means; 1 if all differences are zero, NaN without a common image.
        count: (P,) number of common images.
        above: (P,) share of images on which the first is higher.
        below: (P,) share of images on which the first is lower.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    count: np.ndarray
    above: np.ndarray
    below: np.ndarray


def compare_pairs(values: Sequence[np.ndarray], seed: int = 0, draws: int = DRAWS, flips: int = 9999) -> list[Pairs]:
    """Return the comparison of all pairs under each of several measures, by the same draws.

    Args:
        values: (N, M) of each measure.
        seed: seed of the draws.
        draws: number of resamples of the images.
        flips: number of random flips, to which the observed one is added.
    """
    if not values:
        return []
    count = len(values[0])
    differences = [_Differences(one) for one in values]
    means: list[list[np.ndarray]] = [[] for _ in values]
    for portion in weights(count, seed, draws):
        for own, one in zip(means, differences, strict=True):
            own.append(ratio(one.sums(portion), one.counts(portion)))
    extreme = np.zeros((len(values), len(differences[0].mean)))
    flipped, exact = signs(count, seed, flips)
    for portion in flipped:
        for number, one in zip(extreme, differences, strict=True):
            number += (np.abs(one.sums(portion)) >= one.bound).sum(0)
    p = extreme / 2**count if exact else (1 + extreme) / (1 + flips)
    return [one.pairs(np.concatenate(own), own_p) for one, own, own_p in zip(differences, means, p, strict=True)]


class _Group(NamedTuple):
    """Images that the same methods know: their places, their values (n, m), and for each pair its place and methods."""

    images: np.ndarray | slice
    values: np.ndarray
    pairs: np.ndarray | slice
    first: np.ndarray
    second: np.ndarray


class _Differences:
    """The differences of all pairs under one measure, as far as their weighted sums need them.

    Args:
        values: (N, M), NaN where unknown.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.first, self.second = np.triu_indices(values.shape[1], 1)
        methods = range(values.shape[1] - 1)
        parts = [_facts(_difference(values[:, [index]], values[:, index + 1 :])) for index in methods]
        facts = np.concatenate(parts, axis=1) if parts else np.zeros((7, 0))
        total, flipped, largest, count, finite, above, below = facts
        self.count: np.ndarray = count
        self.finite: np.ndarray = finite
        self.mean, self.above, self.below = (ratio(sums, self.count) for sums in (total, above, below))
        self.bound = np.abs(flipped) - _ROUNDING * largest
        self.groups, self.rest = self._split(values)
        rest = _difference(values[self.rest][:, self.first], values[self.rest][:, self.second])
        self.known = np.isfinite(rest)
        self.differences = np.where(self.known, rest, 0.0)

    def _split(self, values: np.ndarray) -> tuple[list[_Group], np.ndarray]:
        """Return the groups of images, and the images that are in none."""
        known = np.isfinite(values)
        if known.all():
            return [_Group(slice(None), values, slice(None), self.first, self.second)], np.zeros(0, np.int64)
        _, inverse, counts = np.unique(np.packbits(known, axis=1), axis=0, return_inverse=True, return_counts=True)
        groups, inverse = [], inverse.ravel()
        grouped = np.flatnonzero(counts >= _FEW * len(values))
        for pattern in grouped.tolist():
            images = np.flatnonzero(inverse == pattern)
            has = known[images[0]]
            pairs = np.flatnonzero(has[self.first] & has[self.second])
            if pairs.size:
                place = np.cumsum(has) - 1
                own = np.ascontiguousarray(values[images][:, has])
                groups.append(_Group(images, own, pairs, place[self.first[pairs]], place[self.second[pairs]]))
        return groups, np.flatnonzero(~np.isin(inverse, grouped))

    def sums(self, portion: np.ndarray) -> np.ndarray:
        """Return the weighted sums (D, P) of the finite differences, for weights (D, N)."""
        sums: np.ndarray = portion[:, self.rest] @ self.differences
        for group in self.groups:
            own = portion[:, group.images] @ group.values
            sums[:, group.pairs] += own[:, group.first] - own[:, group.second]
        return sums

    def counts(self, portion: np.ndarray) -> np.ndarray:
        """Return the weights (D, P) of the images with a finite difference."""
        counts: np.ndarray = portion[:, self.rest] @ self.known
        for group in self.groups:
            counts[:, group.pairs] += portion[:, group.images].sum(1, keepdims=True)
        return counts

    def pairs(self, means: np.ndarray, p: np.ndarray) -> Pairs:
        """Return the comparison, from the resampled means (D, P) and p (P,)."""
        valid = (self.count >= 2) & (self.finite == self.count)
        ends = np.full((2, len(valid)), np.nan)
        if valid.any():
            ends[:, valid] = percentiles(means[:, valid])
        p = np.where(self.finite > 0, p, np.nan)
        return Pairs(self.mean, ends[0], ends[1], p, self.count, self.above, self.below)


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return first - second; of two infinite values NaN."""
    with np.errstate(invalid="ignore"):
        difference: np.ndarray = first - second
    return difference


def _facts(change: np.ndarray) -> np.ndarray:
    """Return of differences (N, K): sum of the known and of the finite, largest, numbers of both, above and below 0."""
    known, finite = ~np.isnan(change), np.isfinite(change)
    total = np.where(known, change, 0.0)
    flipped = total if np.array_equal(known, finite) else np.where(finite, change, 0.0)
    parts = [total, flipped, known, finite, change > 0, change < 0]
    total, flipped, known, finite, above, below = (part.sum(0) for part in parts)
    largest = np.abs(np.where(np.isfinite(change), change, 0.0)).max(0, initial=0.0)
    return np.stack([total, flipped, largest, known, finite, above, below])
