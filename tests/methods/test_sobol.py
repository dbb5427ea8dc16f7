"""Sobol indices: models whose indices are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.networks import CellNet, GAPNet, LinearNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, Method
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context


def sobol(clf: Classifier, **params: object) -> Method:
    return METHODS.get("sobol").build(clf, **params)


def test_a_linear_score_shares_its_variance_by_squares() -> None:
    """With ST_i ~ (a_i)^2, a_i the sum of weight times pixel in cell i; n points leave about 1 / sqrt(n)."""
    clf, x = bound(LinearNet()), images(2)
    shares = (x * clf.network.fc.weight.detach().reshape(4, 3, 8, 8)[1]).sum(1)
    cells = shares.reshape(2, 2, 4, 2, 4).sum((2, 4)).square()
    expected = cells / cells.sum((1, 2), keepdim=True)
    found = sobol(clf, samples=1024, grid=2, score="logit").attribute(x, 1).values[:, ::4, ::4]
    assert torch.allclose(found, expected, atol=0.05)
    assert torch.allclose(found.sum((1, 2)), torch.ones(2, dtype=torch.float64), atol=0.05)


def test_only_the_cell_that_is_looked_at_counts() -> None:
    found = sobol(bound(CellNet()), samples=128, grid=4, score="logit").attribute(images(2)).values
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:4, 4:6] = True
    assert (found[:, ~inside] == 0).all()
    assert torch.allclose(found[:, inside], torch.ones(2, 4, dtype=torch.float64), atol=0.15)


def test_a_constant_model_has_no_variance() -> None:
    network = GAPNet()
    clf = bound(network)
    nn.init.zeros_(network.fc.weight)
    found = sobol(clf, samples=4, grid=2).attribute(images(2))
    assert (found.values == 0).all()
    assert all("constant" in flags for flags in found.flags)


def test_seeds_and_passes() -> None:
    clf, x, context = bound(GAPNet()), images(2), Context(seed=3)
    method = sobol(clf, samples=8, grid=3)
    first = method.attribute(x, context=context).values
    assert context.counters.forwards == 2 * method.cost((8, 8)).forwards == 2 * (1 + 8 * 10)
    assert torch.equal(first, method.attribute(x, seed=3).values)
    assert not torch.equal(first, method.attribute(x, seed=4).values)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"samples": 24}, "samples: expected a power of two from 2, got 24"),
        ({"samples": 1}, "samples: expected a whole number from 2, got 1"),
        ({"grid": 0}, "grid: expected a whole number from 1, got 0"),
        ({"grid": 9}, "grid: expected at most the image's 8 pixels a side, got 9"),
        ({"grid": 200}, "grid: expected at most 102 cells a side, got 200"),
        ({"fill": "grey"}, "fill"),
        ({"score": "loss"}, "score"),
    ],
)
def test_bad_input_is_one_line(params: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        sobol(bound(GAPNet()), **params).attribute(images(1))
    assert "\n" not in str(caught.value)
