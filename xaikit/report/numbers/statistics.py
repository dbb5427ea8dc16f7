"""Statistics of means over images: bootstrap intervals, correction for many tests, rank correlation, random draws.

    interval   percentiles of the means over resampled images; all columns of an image are drawn together
    Holm       p_(k) -> max_{j <= k} min(1, (m - j + 1) p_(j)) over the sorted p of a family of m
    tau-b      sum s_ij r_ij / sqrt(sum s_ij^2 sum r_ij^2), s and r the signs of all pairwise differences

Unknown values (NaN) are ignored: a mean is taken over the known images of a draw. Percentile intervals are too narrow
for few images and for heavy tails. pairs.py has the paired tests.

Shapes: values (N,) or (N, T), one row per image. All results are deterministic, because the seeds are arguments.
Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Holm, Scandinavian Journal of Statistics 1979;
Kendall, Biometrika 1945.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

_FEW = 12  # maximal number of images whose flips are enumerated
_AT_ONCE = 4_000_000  # number of weights or signs in memory
_LEAST = 64  # draws of a portion at least: fewer read the values from memory too often


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over images of the known values, NaN without any: () or (T,)."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(0), known.sum(0))


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
    columns = (values[:, None] if values.ndim == 1 else values).astype(np.float64, copy=False)
    known = ~np.isnan(columns)
    valid = (known.sum(0) >= 2) & ~np.isinf(columns).any(0)
    ends = np.full((2, columns.shape[1]), np.nan)
    if valid.any():
        columns, known = (part if valid.all() else part[:, valid] for part in (columns, known))
        ends[:, valid] = percentiles(_resampled_means(columns, known, seed, draws), level)
    low, high = ends.reshape(2, *values.shape[1:])
    return low, high


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


def percentiles(means: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Return the ends (2, T) of the interval that holds a share of the resampled means (draws, T)."""
    quantile = np.nanquantile if np.isnan(means).any() else np.quantile
    ends: np.ndarray = quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends


def _resampled_means(values: np.ndarray, known: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """Return the means (draws, T) over images drawn with replacement."""
    if known.all():
        return np.concatenate([portion @ values / len(values) for portion in weights(len(values), seed, draws)])
    filled = np.where(known, values, 0.0)
    return np.concatenate([ratio(portion @ filled, portion @ known) for portion in weights(len(values), seed, draws)])


def weights(count: int, seed: int, draws: int) -> Iterable[np.ndarray]:
    """Return portions (draws, N) of the number of times each of N images is drawn."""
    return _cached_weights(count, seed, draws) if draws * count <= _AT_ONCE else _weights(count, seed, draws)


def signs(count: int, seed: int, draws: int) -> tuple[Iterable[np.ndarray], bool]:
    """Return portions (draws, N) of signs for N images, and whether they are all that there are."""
    if count <= _FEW:
        return [1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)], True
    return _random_signs(count, np.random.default_rng(seed), draws), False


def ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return sums / counts, NaN where the count is 0."""
    quotient: np.ndarray = np.where(counts > 0, sums, np.nan) / np.maximum(counts, 1)
    return quotient


@lru_cache(maxsize=2)
def _cached_weights(count: int, seed: int, draws: int) -> tuple[np.ndarray, ...]:
    return tuple(_weights(count, seed, draws))


def _weights(count: int, seed: int, draws: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for size in _portions(draws, count, _AT_ONCE // 4):
        portion = np.empty((size, count))
        for row, drawn in zip(portion, rng.integers(0, count, (size, count)), strict=True):
            row[:] = np.bincount(drawn, minlength=count)
        yield portion


def _random_signs(count: int, rng: np.random.Generator, draws: int) -> Iterator[np.ndarray]:
    for size in _portions(draws, count, _AT_ONCE):
        drawn = rng.integers(0, 2, (size, count), dtype=np.int8).astype(np.float64)
        drawn *= -2.0
        drawn += 1.0
        yield drawn


def _portions(draws: int, count: int, at_once: int) -> Iterator[int]:
    """Yield the sizes of portions of the draws whose memory is bounded, or small beside that of the values."""
    size = max(_LEAST, at_once // max(count, 1))
    for start in range(0, draws, size):
        yield min(size, draws - start)
