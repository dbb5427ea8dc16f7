"""HSIC: models that depend on one cell, on none, and what is said of bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import CellNet, GAPNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, Method
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context


def hsic(clf: Classifier, **params: object) -> Method:
    return METHODS.get("hsic").build(clf, **params)


def test_the_cell_that_is_looked_at_stands_out_of_the_noise() -> None:
    found = hsic(bound(CellNet(faint=0.05)), samples=200, grid=4).attribute(images(2), 1).values[:, ::2, ::2]
    others = found.flatten(1)[:, [place for place in range(16) if place not in (0, 6)]]
    assert (found[:, 1, 2] > 10 * others.amax(1)).all()


def test_masks_are_balanced() -> None:
    shown = hsic(bound(GAPNet()), samples=51, grid=3)._masks(0)
    assert shown.shape == (51, 9)
    assert (shown.sum(0) == 25).all()


def test_a_constant_model_depends_on_nothing() -> None:
    network = GAPNet()
    clf = bound(network)
    nn.init.zeros_(network.fc.weight)
    found = hsic(clf, samples=20, grid=2).attribute(images(2))
    assert (found.values == 0).all()
    assert all("constant" in flags for flags in found.flags)


def test_seeds_and_passes() -> None:
    clf, x, context = bound(GAPNet()), images(2), Context(seed=3)
    method = hsic(clf, samples=30, grid=3)
    first = method.attribute(x, context=context).values
    assert context.counters.forwards == 2 * method.cost((8, 8)).forwards == 62
    assert torch.equal(first, method.attribute(x, seed=3).values)
    assert not torch.equal(first, method.attribute(x, seed=4).values)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"samples": 1}, "samples: expected a whole number from 2, got 1"),
        ({"grid": 0}, "grid: expected a whole number from 1, got 0"),
        ({"grid": 9}, "grid: expected at most the image's 8 pixels a side, got 9"),
        ({"fill": "segment-mean"}, "fill"),
        ({"score": "loss"}, "score"),
    ],
)
def test_bad_input_is_one_line(params: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        hsic(bound(GAPNet()), **params).attribute(images(1))
    assert "\n" not in str(caught.value)


def test_scores_that_mostly_tie_still_depend_on_the_cells_behind_them() -> None:
    def both(pixels: np.ndarray) -> np.ndarray:
        lit = (pixels[:, :, :4, :4].mean((1, 2, 3)) > 0.2) & (pixels[:, :, 4:, 4:].mean((1, 2, 3)) > 0.2)
        share = np.where(lit, 0.9, 0.1)
        return np.stack([share, 1 - share], 1)

    clf = Classifier.from_function(both, size=8, mean=0.0)
    found = hsic(clf, grid=2).attribute(torch.full((1, 3, 8, 8), 0.6), 0)
    cells = found.values[0, ::4, ::4]
    assert found.flags == [set()]
    assert float(cells.diagonal().min()) > 10 * float(cells.fliplr().diagonal().max())
