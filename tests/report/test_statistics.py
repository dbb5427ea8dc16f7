"""Intervals cover, tests hold their level, and corrections are those computed by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from xaikit.report.numbers.statistics import bootstrap_interval, holm, kendall_tau, mean_of_known, paired_test

RNG = np.random.default_rng


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    samples = RNG(1).exponential(1.0, (60, 800))
    low, high = bootstrap_interval(samples)
    assert 0.90 <= ((low <= 1.0) & (high >= 1.0)).mean() <= 0.97


def test_the_interval_is_that_of_scipy():
    values = RNG(2).normal(3.0, 2.0, 80)
    low, high = bootstrap_interval(values, draws=20_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=RNG(3))
    assert float(low) == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert float(high) == pytest.approx(expected.confidence_interval.high, abs=0.02)


def test_columns_share_their_draws_and_nothing_depends_on_the_others():
    values = RNG(3).random((40, 3))
    together = np.stack(bootstrap_interval(values))
    alone = np.stack([bootstrap_interval(values[:, place]) for place in range(3)], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-12)
    np.testing.assert_allclose(np.stack(bootstrap_interval(values + 5)), together + 5, atol=1e-12)
    assert together[0].max() < together[1].min()


def test_unknown_values_take_no_part():
    values = RNG(4).random((50, 2))
    values[10:, 1] = np.nan
    low, high = bootstrap_interval(values)
    assert low[1] < values[:10, 1].mean() < high[1]
    assert high[1] - low[1] > high[0] - low[0], "ten images tell less than fifty"
    np.testing.assert_allclose(mean_of_known(values), [values[:, 0].mean(), values[:10, 1].mean()])


@pytest.mark.parametrize("values", [[], [0.3], [0.3, math.nan], [math.nan, math.nan], [0.3, math.inf]])
def test_without_two_finite_images_there_is_no_interval(values):
    assert np.isnan(np.stack(bootstrap_interval(np.array(values, dtype=np.float64)))).all()


def test_equal_values_have_an_interval_of_one_point():
    low, high = bootstrap_interval(np.full(9, 0.25))
    assert (float(low), float(high)) == (0.25, 0.25)


def test_many_images_are_drawn_in_portions(monkeypatch):
    values = RNG(5).random((30, 2))
    whole = np.stack(bootstrap_interval(values)), paired_test(values[:, :1], values[:, 1:])
    monkeypatch.setattr("xaikit.report.numbers.statistics._AT_ONCE", 100)
    parts = np.stack(bootstrap_interval(values)), paired_test(values[:, :1], values[:, 1:])
    np.testing.assert_allclose(parts[0], whole[0], atol=0.03)
    np.testing.assert_allclose(parts[1], whole[1], atol=0.03)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_few_pairs_are_tested_by_all_flips(count):
    first, second = RNG(count).random((2, count))
    observed = abs((first - second).sum())
    flips = [abs(np.dot(signs, first - second)) for signs in product((-1, 1), repeat=count)]
    expected = np.mean([flipped >= observed - 1e-12 for flipped in flips])
    assert float(paired_test(first, second)) == expected
    assert float(paired_test(second, first)) == expected


def test_many_pairs_agree_with_the_t_test():
    first, second = RNG(6).normal(0, 1, (2, 300, 4))
    first += [0.0, 0.05, 0.15, 0.4]
    p = paired_test(first, second)
    np.testing.assert_allclose(p, stats.ttest_rel(first, second).pvalue, atol=0.015)


def test_shares_are_tested_as_mcnemar_does():
    first, second = np.zeros((2, 200))
    first[:14], second[14:18] = 1, 1
    expected = stats.binomtest(14, 18).pvalue
    assert float(paired_test(first, second)) == pytest.approx(expected, abs=0.01)


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


def test_holm_by_hand():
    # sorted .01 .02 .03 .04: x4 = .04, x3 = .06, x2 = .06, x1 = .04, none below the one before
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, math.nan, 0.01])), [0.5, math.nan, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_scipy_with_ties(seed):
    first, second = RNG(seed).integers(0, 5, (2, 9)).astype(np.float64)
    assert kendall_tau(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)


def test_tau_by_hand():
    # of six pairs of places five agree and one does not
    assert kendall_tau(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)
    assert kendall_tau(np.array([1.0, 2, math.nan, 3]), np.array([3.0, 2, 9, 1])) == -1
    assert math.isnan(kendall_tau(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])))
    assert math.isnan(kendall_tau(np.array([1.0]), np.array([1.0])))
