"""Paired tests hold their level, and the sums that pairs share give what each pair gives by itself."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from xaikit.report.numbers.pairs import compare_pairs
from xaikit.report.numbers.statistics import bootstrap_interval, mean_of_known

RNG = np.random.default_rng


def paired_test(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return p of two methods (N,), or under several measures (N, T)."""
    first, second = (values.reshape(len(values), -1) for values in (first, second))
    pairs = compare_pairs([np.column_stack(own) for own in zip(first.T, second.T, strict=True)])
    return np.array([one.p[0] for one in pairs])


def alone(first: np.ndarray, second: np.ndarray, flips: int = 9999) -> tuple[float, ...]:
    """Return mean, low, high, p, number, share above and below of one pair from its differences, each sign drawn."""
    with np.errstate(invalid="ignore"):
        change = first - second
    finite = np.where(np.isfinite(change), change, 0.0)
    signs = 1.0 - 2.0 * RNG(0).integers(0, 2, (flips, len(change)), dtype=np.int8)
    extreme = (np.abs(signs @ finite) >= abs(finite.sum()) - 1e-9 * np.abs(finite).max()).sum()
    shares = [float(mean_of_known(np.where(np.isnan(change), np.nan, side))) for side in (change > 0, change < 0)]
    p = (1 + extreme) / (1 + flips) if np.isfinite(change).any() else math.nan
    low, high = bootstrap_interval(change)
    return float(mean_of_known(change)), float(low), float(high), p, int((~np.isnan(change)).sum()), *shares


def missing(kind: str, values: np.ndarray) -> np.ndarray:
    """Remove values (N, M) in different ways."""
    if kind == "a method":
        values[:, 2] = np.nan
    elif kind == "half of a method":
        values[::2, 0] = np.nan
    elif kind == "scattered":
        values[RNG(3).random(values.shape) < 0.01] = np.nan
    elif kind == "an image":
        values[5] = np.nan
    elif kind == "infinite":
        values[7, 1], values[9, :2] = np.inf, np.inf
    elif kind == "most":
        values[RNG(4).random(values.shape) < 0.7] = np.nan
    return values


@pytest.mark.parametrize("kind", ["none", "a method", "half of a method", "scattered", "an image", "infinite", "most"])
def test_pairs_are_compared_as_each_alone(kind):
    values = [missing(kind, RNG(seed).exponential(1.0, (120, 5))) for seed in (1, 2)]
    values[1] = np.round(values[1], 1)
    for own, pairs in zip(values, compare_pairs(values), strict=True):
        found = zip(pairs.mean, pairs.low, pairs.high, pairs.p, pairs.count, pairs.above, pairs.below, strict=True)
        for (first, second), numbers in zip(zip(*np.triu_indices(5, 1), strict=True), found, strict=True):
            expected = alone(own[:, first], own[:, second])
            assert tuple(map(float, numbers)) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_one_method_has_no_pair_and_no_measure_no_comparison():
    (pairs,) = compare_pairs([RNG(0).random((30, 1))])
    assert pairs.p.shape == pairs.low.shape == (0,)
    assert compare_pairs([]) == []


def test_many_images_are_flipped_in_portions(monkeypatch):
    values = [RNG(5).random((30, 3))]
    (whole,) = compare_pairs(values)
    monkeypatch.setattr("xaikit.report.numbers.statistics._AT_ONCE", 100)
    (parts,) = compare_pairs(values)
    np.testing.assert_allclose(parts.p, whole.p, atol=0.03)
    np.testing.assert_allclose([parts.low, parts.high], [whole.low, whole.high], atol=0.03)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_few_pairs_are_tested_by_all_flips(count):
    first, second = RNG(count).random((2, count))
    observed = abs((first - second).sum())
    flips = [abs(np.dot(signs, first - second)) for signs in product((-1, 1), repeat=count)]
    expected = np.mean([flipped >= observed - 1e-12 for flipped in flips])
    assert paired_test(first, second)[0] == expected
    assert paired_test(second, first)[0] == expected


def test_many_pairs_agree_with_the_t_test():
    first, second = RNG(6).normal(0, 1, (2, 300, 4))
    first += [0.0, 0.05, 0.15, 0.4]
    p = paired_test(first, second)
    np.testing.assert_allclose(p, stats.ttest_rel(first, second).pvalue, atol=0.015)


def test_shares_are_tested_as_mcnemar_does():
    first, second = np.zeros((2, 200))
    first[:14], second[14:18] = 1, 1
    expected = stats.binomtest(14, 18).pvalue
    assert paired_test(first, second)[0] == pytest.approx(expected, abs=0.01)


def test_the_test_holds_its_level():
    first, second = RNG(7).exponential(1.0, (2, 40, 600))
    assert (paired_test(first, second) < 0.05).mean() == pytest.approx(0.05, abs=0.025)


def test_no_difference_is_certain_and_no_pair_is_unknown():
    values = RNG(8).random((20, 3))
    other = values.copy()
    other[:, 1] = np.nan
    other[3:, 2] += 1.0
    p = paired_test(values, other)
    assert p[0] == 1
    assert math.isnan(p[1])
    assert p[2] < 0.001
