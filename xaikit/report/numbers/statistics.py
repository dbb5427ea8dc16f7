"""What a difference of means is worth: intervals, paired tests, their correction where they are many, rank correlation.

    interval   percentiles of the means over resampled images; all columns of an image are drawn together
    test       p = share of sign flips s in {-1, 1}^N with |sum_i s_i d_i| >= |sum_i d_i|, d_i = first_i - second_i
    Holm       p_(k) -> max_{j <= k} min(1, (m - j + 1) p_(j)) over the sorted p of a family of m
    tau-b      sum s_ij r_ij / sqrt(sum s_ij^2 sum r_ij^2), s and r the signs of all pairwise differences

The sign flips test the mean, which is what the tables print; of values 0 and 1 it is McNemar's test. Up to 12 images
all flips are taken, else random ones. Unknown values (NaN) take no part: a mean is that of the known images of a draw.
Percentile intervals are too narrow for few images and for heavy tails.

Shapes: values (N,) or (N, T), one row an image. All is a function of the arguments: the streams have fixed seeds.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Fisher, The Design of Experiments, 1935; Holm,
Scandinavian Journal of Statistics 1979; Kendall, Biometrika 1945.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

_FEW = 12  # images whose flips are all taken
_AT_ONCE = 4_000_000  # weights or signs in memory
_ROUNDING = 1e-9  # of the largest difference: sums that differ by less are equal


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over images of what is known, NaN where nothing is: () or (T,)."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(0), known.sum(0))


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the percentile interval of the mean over images, each () or (T,).

    Fewer than two known images have no interval: NaN. So has a mean that is not finite.

    Args:
        values: (N,) or (N, T), NaN where unknown.
        seed: of the resampling, which is the same for all values of one N.
        draws: how often the images are resampled.
        level: share of the resampled means that lie inside.
    """
    columns = (values[:, None] if values.ndim == 1 else values).astype(np.float64)
    known = ~np.isnan(columns)
    told = (known.sum(0) >= 2) & ~np.isinf(columns).any(0)
    ends = np.full((2, columns.shape[1]), np.nan)
    if told.any():
        means = _resampled_means(columns[:, told], known[:, told], seed, draws)
        quantile = np.nanquantile if np.isnan(means).any() else np.quantile
        ends[:, told] = quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = ends.reshape(2, *values.shape[1:])
    return low, high


def paired_test(first: np.ndarray, second: np.ndarray, seed: int = 0, draws: int = 9999) -> np.ndarray:
    """Return the two-sided p of equal means by flipping the signs of the paired differences: () or (T,).

    Differences that are all zero have p = 1; without a pair there is no p: NaN.

    Args:
        first: (N,) or (N, T), NaN where unknown.
        second: of the same images.
        seed: of the flips, where they are random.
        draws: how many random flips; none of them counts as the one that was observed.
    """
    difference = first - second if first.ndim > 1 else (first - second)[:, None]
    paired = np.isfinite(difference)
    difference = np.where(paired, difference, 0.0)
    largest = np.abs(difference).max(0, initial=0.0)
    difference = difference / np.where(largest > 0, largest, 1.0)
    bound = np.abs(difference.sum(0)) - _ROUNDING
    exact = len(difference) <= _FEW
    signs = _all_signs(len(difference)) if exact else _random_signs(len(difference), np.random.default_rng(seed), draws)
    extreme = np.sum([(np.abs(some @ difference) >= bound).sum(0) for some in signs], axis=0)
    p = extreme / 2 ** len(difference) if exact else (1 + extreme) / (1 + draws)
    shaped: np.ndarray = np.where(paired.any(0), p, np.nan).reshape(first.shape[1:])
    return shaped


def holm(p: np.ndarray) -> np.ndarray:
    """Return the adjusted p (M,) of one family of tests; what is NaN stays so and belongs to no family."""
    adjusted = np.full(len(p), np.nan)
    order = [place for place in np.argsort(p, kind="stable") if p[place] == p[place]]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return tau-b of two (M,), over the places known in both; NaN where one of them has no order."""
    known = ~(np.isnan(first) | np.isnan(second))
    one, other = (np.sign(values[known][:, None] - values[known]) for values in (first, second))
    norm = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / norm) if norm else float("nan")


def _resampled_means(values: np.ndarray, known: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """Return the means (draws, T) over images drawn with replacement."""
    count = len(values)
    filled = np.where(known, values, 0.0)
    weights = _drawn_before(count, seed, draws) if draws * count <= _AT_ONCE else _drawn(count, seed, draws)
    everywhere = known.all()
    return np.concatenate(
        [_ratio(some @ filled, np.float64(count) if everywhere else some @ known) for some in weights]
    )


@lru_cache(maxsize=2)
def _drawn_before(count: int, seed: int, draws: int) -> tuple[np.ndarray, ...]:
    return tuple(_drawn(count, seed, draws))


def _drawn(count: int, seed: int, draws: int) -> Iterator[np.ndarray]:
    """Yield portions (draws, N) of how often each image is drawn."""
    rng = np.random.default_rng(seed)
    for some in _portions(draws, count):
        drawn = rng.integers(0, count, (some, count)) + count * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def _ratio(sums: np.ndarray, counts: np.ndarray | np.float64) -> np.ndarray:
    ratio: np.ndarray = np.where(counts > 0, sums, np.nan) / np.maximum(counts, 1)
    return ratio


def _all_signs(count: int) -> Iterator[np.ndarray]:
    yield 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)


def _random_signs(count: int, rng: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    for some in _portions(draws, count):
        yield 1.0 - 2.0 * rng.integers(0, 2, (some, count), dtype=np.int8)


def _portions(draws: int, count: int) -> Iterator[int]:
    """Yield how many draws to take at once, so that memory stays bounded."""
    size = max(1, _AT_ONCE // max(count, 1))
    for start in range(0, draws, size):
        yield min(size, draws - start)
