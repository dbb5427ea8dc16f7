"""Statistics of means over images: bootstrap intervals, paired tests, correction for many tests, rank correlation.

    interval   percentiles of the means over resampled images; all columns of an image are drawn together
    test       p = share of sign flips s in {-1, 1}^N with |sum_i s_i d_i| >= |sum_i d_i|, d_i = first_i - second_i
    Holm       p_(k) -> max_{j <= k} min(1, (m - j + 1) p_(j)) over the sorted p of a family of m
    tau-b      sum s_ij r_ij / sqrt(sum s_ij^2 sum r_ij^2), s and r the signs of all pairwise differences

The sign flips test the mean, which is what the tables print; for values 0 and 1 this is McNemar's test. For up to 12
images all flips are enumerated, for more they are random. Unknown values (NaN) are ignored: a mean is taken over the
known images of a draw. Percentile intervals are too narrow for few images and for heavy tails.

Shapes: values (N,) or (N, T), one row per image. All results are deterministic, because the seeds are arguments.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Fisher, The Design of Experiments, 1935; Holm,
Scandinavian Journal of Statistics 1979; Kendall, Biometrika 1945.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

_FEW = 12  # maximal number of images whose flips are enumerated
_AT_ONCE = 4_000_000  # maximal number of weights or signs in memory
_ROUNDING = 1e-9  # sums that differ by less than this share of the largest difference are equal


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over images of the known values, NaN without any: () or (T,)."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(0), known.sum(0))


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper end of the percentile interval of the mean over images, each () or (T,).

    The ends are NaN for fewer than two known images or an infinite value.

    Args:
        values: (N,) or (N, T), NaN where unknown.
        seed: seed of the resampling, which is the same for all values of one N.
        draws: number of resamples.
        level: share of the resampled means inside the interval.
    """
    columns = (values[:, None] if values.ndim == 1 else values).astype(np.float64)
    known = ~np.isnan(columns)
    valid = (known.sum(0) >= 2) & ~np.isinf(columns).any(0)
    ends = np.full((2, columns.shape[1]), np.nan)
    if valid.any():
        means = _resampled_means(columns[:, valid], known[:, valid], seed, draws)
        quantile = np.nanquantile if np.isnan(means).any() else np.quantile
        ends[:, valid] = quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = ends.reshape(2, *values.shape[1:])
    return low, high


def paired_test(first: np.ndarray, second: np.ndarray, seed: int = 0, draws: int = 9999) -> np.ndarray:
    """Return the two-sided p of equal means by flipping the signs of the paired differences: () or (T,).

    p is 1 if all differences are zero, NaN without a pair.

    Args:
        first: (N,) or (N, T), NaN where unknown.
        second: values of the same images, of the same shape.
        seed: seed of random flips.
        draws: number of random flips, to which the observed one is added.
    """
    difference = first - second if first.ndim > 1 else (first - second)[:, None]
    paired = np.isfinite(difference)
    difference = np.where(paired, difference, 0.0)
    largest = np.abs(difference).max(0, initial=0.0)
    difference = difference / np.where(largest > 0, largest, 1.0)
    bound = np.abs(difference.sum(0)) - _ROUNDING
    exact = len(difference) <= _FEW
    signs = _all_signs(len(difference)) if exact else _random_signs(len(difference), np.random.default_rng(seed), draws)
    extreme = np.sum([(np.abs(portion @ difference) >= bound).sum(0) for portion in signs], axis=0)
    p: np.ndarray = extreme / 2 ** len(difference) if exact else (1 + extreme) / (1 + draws)
    return np.where(paired.any(0), p, np.nan).reshape(first.shape[1:])


def holm(p: np.ndarray) -> np.ndarray:
    """Return the Holm-corrected p (M,) of one family of tests; NaN stays NaN and does not count as a test."""
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return tau-b of two (M,) over the entries known in both; NaN if all entries of one are equal."""
    known = ~(np.isnan(first) | np.isnan(second))
    s, r = (np.sign(values[known][:, None] - values[known]) for values in (first, second))
    norm = np.sqrt((s**2).sum() * (r**2).sum())
    return float((s * r).sum() / norm) if norm else float("nan")


def _resampled_means(values: np.ndarray, known: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """Return the means (draws, T) over images drawn with replacement."""
    count = len(values)
    filled = np.where(known, values, 0.0)
    weights = _cached_weights(count, seed, draws) if draws * count <= _AT_ONCE else _weights(count, seed, draws)
    all_known = known.all()
    return np.concatenate(
        [_ratio(portion @ filled, np.float64(count) if all_known else portion @ known) for portion in weights]
    )


@lru_cache(maxsize=2)
def _cached_weights(count: int, seed: int, draws: int) -> tuple[np.ndarray, ...]:
    return tuple(_weights(count, seed, draws))


def _weights(count: int, seed: int, draws: int) -> Iterator[np.ndarray]:
    """Yield portions (draws, N) of the number of times each image is drawn."""
    rng = np.random.default_rng(seed)
    for size in _portions(draws, count):
        drawn = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def _ratio(sums: np.ndarray, counts: np.ndarray | np.float64) -> np.ndarray:
    ratio: np.ndarray = np.where(counts > 0, sums, np.nan) / np.maximum(counts, 1)
    return ratio


def _all_signs(count: int) -> Iterator[np.ndarray]:
    yield 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)


def _random_signs(count: int, rng: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    for size in _portions(draws, count):
        yield 1.0 - 2.0 * rng.integers(0, 2, (size, count), dtype=np.int8)


def _portions(draws: int, count: int) -> Iterator[int]:
    """Yield the sizes of portions of the draws that fit into bounded memory."""
    size = max(1, _AT_ONCE // max(count, 1))
    for start in range(0, draws, size):
        yield min(size, draws - start)
