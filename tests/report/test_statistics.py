"""Intervals cover, and corrections and rank correlations are those computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from xaikit.report.numbers.statistics import bootstrap_interval, holm, kendall_tau, mean_of_known

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
    whole = np.stack(bootstrap_interval(values))
    monkeypatch.setattr("xaikit.report.numbers.statistics._AT_ONCE", 100)
    np.testing.assert_allclose(np.stack(bootstrap_interval(values)), whole, atol=0.03)


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
