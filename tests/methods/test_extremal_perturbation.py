"""Extremal perturbation: the area asked for, a better score than any mask drawn, and the parts of the search."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

import xaikit
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import upsample
from xaikit.images.synthetic import Scene, draw
from xaikit.methods.base import METHODS, Method
from xaikit.methods.perturbation import mask_search
from xaikit.methods.perturbation.extremal_perturbation import (
    _pyramid,
    _sharpened,
    _SmoothMaximum,
    _sorted_targets,
    _taps,
)
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context


def extremal(clf: Classifier, **params: object) -> Method:
    return METHODS.get("extremal-perturbation").build(clf, **params)


def test_the_smooth_maximum_has_the_gradient_that_it_says() -> None:
    weights = _taps(2.0, 2)
    p = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: _SmoothMaximum.apply(one, weights), (p,))


def test_the_smooth_maximum_spreads_one_parameter_over_its_neighbours() -> None:
    p = torch.zeros(1, 9, 9, dtype=torch.float64)
    p[0, 4, 4] = 1
    mask = _SmoothMaximum.apply(p, _taps(3.0, 1))[0]
    assert float(mask.max()) > 0.99
    assert torch.allclose(mask[4, 4], mask[4, 5], atol=1e-9)
    assert torch.allclose(mask, mask.T)
    assert float(mask[0, 0]) < 0.05


def test_the_pyramid_ends_in_the_image_and_masks_choose_between_levels() -> None:
    x = images(2, size=32)
    pyramid = _pyramid(x)
    assert torch.equal(pyramid[:, -1], x)
    roughness = pyramid.diff(dim=3).abs().mean((0, 2, 3, 4))
    assert (roughness.diff() > 0).all()
    for level in range(8):
        masks = torch.full((2, 32, 32), level / 7, dtype=torch.float64)
        assert torch.allclose(_sharpened(pyramid, masks), pyramid[:, level], atol=1e-12)
    halfway = torch.full((2, 32, 32), 0.5 / 7, dtype=torch.float64)
    assert torch.allclose(_sharpened(pyramid, halfway), (pyramid[:, 0] + pyramid[:, 1]) / 2)


def test_sorted_targets_share_ties() -> None:
    values = torch.tensor([[0.1, 0.9, 0.5, 0.5], [0.3, 0.3, 0.3, 0.3]])
    found = _sorted_targets(values, torch.tensor([2.0, 1.0]))
    assert torch.allclose(found, torch.tensor([[0.0, 1.0, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]]))


@pytest.mark.slow
def test_a_constant_model_shows_the_area_everywhere() -> None:
    network = GAPNet()
    clf = bound(network)
    nn.init.zeros_(network.fc.weight)
    found = extremal(clf, areas=0.3, steps=150).attribute(images(1))
    assert abs(float(found.values.mean()) - 0.3) < 0.03
    assert float(found.values.max() - found.values.min()) < 1e-3


@cache
def searched(variant: str, count: int, steps: int) -> tuple[Classifier, Scene, Attribution]:
    """Return a network, drawn images, and masks of 12 % of their area."""
    clf, scene = xaikit.load("texture-cnn", device="cpu"), draw(count)
    return clf, scene, extremal(clf, areas=0.12, steps=steps, variant=variant).attribute(scene.pixels, scene.labels)


@pytest.mark.parametrize(
    ("variant", "count", "steps"),
    [pytest.param(name, 2, 120, marks=pytest.mark.slow) for name in ("preserve", "delete", "dual")],
)
def test_the_area_is_met_and_the_score_beats_masks_drawn_at_random(variant: str, count: int, steps: int) -> None:
    clf, scene, found = searched(variant, count, steps)
    assert 0 <= float(found.values.min()) <= float(found.values.max()) <= 1
    assert (found.values.mean((1, 2)) - 0.12).abs().max() < 0.03
    assert torch.allclose(found.diagnostics["area error"], (found.values.mean((1, 2)) - 0.12).abs(), atol=1e-6)
    reached = rewards(clf, scene.pixels, scene.labels, found.values, variant)
    for one in drawn_masks(found.values, 30):
        assert (reached > rewards(clf, scene.pixels, scene.labels, one, variant)).all()


def drawn_masks(like: Tensor, count: int) -> Tensor:
    """Return smooth random masks (count, n, H, W) of the same areas."""
    noise = torch.rand(count, *like.shape[:1], 5, 5, generator=torch.Generator().manual_seed(5))
    smooth = upsample(noise.flatten(0, 1), like.shape[1:]).reshape(count, *like.shape).flatten(2)
    kept = (like.mean((1, 2)) * smooth.shape[2]).round().long()
    places = smooth.argsort(dim=2, descending=True).argsort(dim=2)
    return (places < kept[None, :, None]).float().reshape(count, *like.shape)


def rewards(clf: Classifier, pixels: Tensor, labels: Tensor, masks: Tensor, variant: str) -> Tensor:
    """Return what a variant is after: the score of what masks keep, less that of what they leave, or both."""
    pyramid = _pyramid(clf.normalize(pixels))
    sides = {"preserve": {1: masks}, "delete": {-1: 1 - masks}, "dual": {1: masks, -1: 1 - masks}}[variant]
    with torch.no_grad():
        scores = {sign: clf.logits(_sharpened(pyramid, side)) for sign, side in sides.items()}
    return sum(sign * one.gather(1, labels[:, None])[:, 0] for sign, one in scores.items())


@pytest.mark.parametrize(("steps", "flags"), [(2, {"area-missed"}), (100, set())])
@pytest.mark.slow
def test_an_area_that_is_missed_is_flagged(steps: int, flags: set[str]) -> None:
    _, _, found = searched("preserve", 1, steps)
    assert (found.diagnostics["area error"] > 0.03).tolist() == [bool(flags)]
    assert [flagged & {"area-missed"} for flagged in found.flags] == [flags]


@pytest.mark.slow
def test_several_areas_are_averaged() -> None:
    clf, x = bound(DeepNet()), images(2)
    both = extremal(clf, areas=(0.2, 0.5), steps=30).attribute(x, 1).values
    single = [extremal(clf, areas=area, steps=30).attribute(x, 1).values for area in (0.2, 0.5)]
    assert torch.allclose(both, (single[0] + single[1]) / 2, atol=1e-9)


@pytest.mark.slow
def test_batches_equal_singles_over_many_steps() -> None:
    clf, x = bound(GAPNet()), images(3)
    method = extremal(clf, steps=20, areas=(0.1, 0.3))
    together = method.attribute(x, context=Context(chunk_size=2)).values
    single = [method.attribute(x[i : i + 1], context=Context(chunk_size=2)).values for i in range(3)]
    assert torch.equal(together, torch.cat(single))


def test_the_dual_search_takes_two_passes_a_step() -> None:
    clf, context, method = bound(GAPNet()), Context(), extremal(bound(GAPNet()), steps=5, variant="dual")
    extremal(clf, steps=5, variant="dual").attribute(images(3), context=context)
    assert context.counters.backwards == 3 * method.cost((8, 8)).backwards == 30


def test_progress_and_passes_are_those_declared() -> None:
    clf, x, seen = bound(GAPNet()), images(3), []
    context = Context(chunk_size=2, progress=lambda done, total, unit: seen.append((done, total, unit)))
    method = extremal(clf, areas=(0.1, 0.2), steps=5)
    method.attribute(x, context=context)
    cost = method.cost((8, 8))
    assert context.counters.backwards == 3 * cost.backwards
    assert context.counters.forwards == 3 * cost.forwards
    steps = [one for one in seen if one[2] == "search steps"]
    assert [one[0] for one in steps[:10]] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert steps[9][:2] == (20, 20)


def test_a_long_search_announces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks 2 s at each look: the first of 5 steps takes 2 s."""
    ticks, told = iter(range(0, 1000, 2)), []
    monkeypatch.setattr(mask_search.time, "perf_counter", lambda: float(next(ticks)))
    context = Context(chunk_size=2, progress=lambda done, total, unit: told.append((done, total, unit)))
    extremal(bound(GAPNet()), steps=5).attribute(images(2), context=context)
    assert [one for one in told if "steps" in one[2]] == [
        (1, 10, "search steps, about 20 s"),
        *((done, 10, "search steps") for done in (2, 3, 4, 5)),
        (6, 10, "search steps, about 20 s"),
        *((done, 10, "search steps") for done in (7, 8, 9, 10)),
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"areas": 0.0}, "areas: expected a number above 0 and below 1, or several, got 0.0"),
        ({"areas": 1.0}, "areas: expected a number above 0 and below 1, or several, got 1.0"),
        ({"areas": (0.1, 1.5)}, "areas: expected a number above 0 and below 1, or several, got"),
        ({"areas": ()}, "areas: expected at least one share, got none"),
        ({"steps": 0}, "steps: expected a whole number from 1, got 0"),
        ({"sigma": 0.0}, "sigma: expected a number above 0 or None, got 0.0"),
        ({"variant": "both"}, "variant: expected preserve, delete or dual, got 'both'"),
    ],
)
def test_bad_input_is_one_line(params: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        extremal(bound(GAPNet()), **params)
    assert "\n" not in str(caught.value)
