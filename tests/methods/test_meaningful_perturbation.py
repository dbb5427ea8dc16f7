"""Meaningful perturbation: little is removed, the class goes, and what the search is told is done."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xaikit
from tests.networks import GAPNet, GraphlessNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import fill_values
from xaikit.images.synthetic import draw
from xaikit.methods.base import METHODS, Method
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context


def meaningful(clf: Classifier, **params: object) -> Method:
    return METHODS.get("meaningful-perturbation").build(clf, **params)


@pytest.mark.slow
def test_what_it_removes_takes_the_class_away() -> None:
    clf, scene = xaikit.load("texture-cnn", device="cpu"), draw(2)
    found = meaningful(clf, steps=100).attribute(scene.pixels, scene.labels)
    assert 0 <= float(found.values.min()) <= float(found.values.max()) <= 1
    assert float(found.values.mean()) < 0.5
    assert torch.allclose(found.diagnostics["area"], found.values.mean((1, 2)))
    inputs = clf.normalize(scene.pixels)
    filled = fill_values(clf.normalize, scene.pixels, "blur")
    left = torch.lerp(inputs, filled, found.values[:, None])
    with torch.no_grad():
        probabilities = clf.to_probabilities(clf.logits(left)).gather(1, scene.labels[:, None])
    assert float(found.probabilities.min()) > 0.9
    assert float(probabilities.max()) < 0.3
    inside = (found.values * scene.objects).sum((1, 2)) / found.values.sum((1, 2))
    assert (inside > 1.5 * scene.objects.float().mean((1, 2))).all()


def test_a_constant_model_loses_nothing() -> None:
    network = GAPNet()
    clf = bound(network)
    nn.init.zeros_(network.fc.weight)
    found = meaningful(clf, steps=60).attribute(images(1))
    assert float(found.values.max()) < 1e-6


def test_shifts_follow_the_seed() -> None:
    clf, x = xaikit.load("texture-cnn", device="cpu"), draw(1).pixels
    method = meaningful(clf, steps=15)
    first = method.attribute(x, seed=1).values
    assert torch.equal(first, method.attribute(x, seed=1).values)
    assert not torch.equal(first, method.attribute(x, seed=2).values)


def test_batches_equal_singles_over_many_steps() -> None:
    clf, x = bound(GAPNet()), images(3)
    method = meaningful(clf, steps=20)
    together = method.attribute(x, context=Context(chunk_size=4)).values
    single = [method.attribute(x[i : i + 1], context=Context(chunk_size=4)).values for i in range(3)]
    assert torch.equal(together, torch.cat(single))


def test_images_that_are_not_square_have_cells_that_are() -> None:
    clf = bound(GAPNet())
    x = torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = meaningful(clf, steps=3, grid=4).attribute(x)
    assert found.values.shape == (2, 8, 16)
    assert found.params["grid"] == 4


def test_passes_are_those_declared() -> None:
    clf, context = bound(GAPNet()), Context()
    method = meaningful(clf, steps=7)
    method.attribute(images(3), context=context)
    cost = method.cost((8, 8))
    assert (context.counters.forwards, context.counters.backwards) == (3 * cost.forwards, 3 * cost.backwards)


def test_a_network_that_cuts_its_own_graph_is_refused() -> None:
    with pytest.raises(BadInput, match="expected a score with a gradient"):
        meaningful(bound(GraphlessNet()), steps=2).attribute(images(1))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1, got 0"),
        ({"grid": 0}, "grid: expected a whole number from 1 or None, got 0"),
        ({"grid": 9}, "grid: expected at most 8 cells, one per pixel, got 9"),
        ({"sparsity": -1.0}, "sparsity: expected a number from 0"),
        ({"smoothness": float("nan")}, "smoothness: expected a number from 0"),
        ({"exponent": 0.5}, "exponent: expected a number from 1"),
        ({"fill": "grey"}, "fill"),
    ],
)
def test_bad_input_is_one_line(params: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        meaningful(bound(GAPNet()), **params).attribute(images(1))
    assert "\n" not in str(caught.value)
