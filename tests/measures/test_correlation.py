"""Correlations of rows against SciPy's, and what they say of constant rows."""

from __future__ import annotations

import torch
from scipy import stats
from torch import Tensor

from xaikit.measures.correlation import likeness, pearson, ranks, spearman, tie_bounds


def rows(seed: int, steps: int = 6) -> Tensor:
    """Five rows of whole numbers, so that many are tied."""
    return torch.randint(0, steps, (5, 30), generator=torch.Generator().manual_seed(seed)).double()


def test_ranks_are_scipys() -> None:
    expected = torch.tensor(stats.rankdata(rows(0).numpy(), axis=1)) - 1
    assert torch.equal(ranks(rows(0)), expected)


def test_correlations_are_scipys() -> None:
    first, second = rows(0), rows(1)
    pairs = list(zip(first.numpy(), second.numpy(), strict=True))
    for ours, theirs in ((pearson, stats.pearsonr), (spearman, stats.spearmanr)):
        expected = torch.tensor([theirs(one, other).statistic for one, other in pairs])
        torch.testing.assert_close(ours(first, second), expected, rtol=0, atol=1e-12)


def test_tie_bounds_by_hand() -> None:
    first, last = tie_bounds(torch.tensor([[1.0, 2.0, 2.0, 2.0, 5.0, 5.0]]))
    assert first.tolist() == [[0, 1, 1, 1, 4, 4]]
    assert last.tolist() == [[0, 3, 3, 3, 5, 5]]


def test_a_constant_row_has_no_correlation() -> None:
    constant = torch.full((5, 30), 0.1, dtype=torch.float64)
    rounded = constant * (1 + 1e-15 * rows(1))
    assert not torch.equal(rounded, constant)
    assert pearson(rounded, rows(0)).isnan().all()
    assert spearman(rows(0), constant).isnan().all()


def test_a_row_that_is_not_finite_has_none() -> None:
    broken = rows(0)
    broken[2, 3], broken[4, 0] = torch.nan, torch.inf
    for correlation in (pearson, spearman, likeness):
        assert correlation(broken, rows(1)).isnan().tolist() == [False, False, True, False, True]
        assert correlation(rows(1), broken).isnan().tolist() == [False, False, True, False, True]


def test_likeness_of_constant_maps() -> None:
    ones, some = torch.ones(5, 30), rows(0)
    assert likeness(ones, ones).tolist() == [1.0] * 5
    assert likeness(some, some).tolist() == [1.0] * 5
    assert likeness(some, ones).tolist() == [0.0] * 5
    assert likeness(ones, 2 * ones).tolist() == [0.0] * 5
    torch.testing.assert_close(likeness(some, rows(1)), spearman(some, rows(1)))
