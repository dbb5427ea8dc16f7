"""XRAI: its sum, its regions, images in which there is only one, and where the evidence is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import xaikit
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.images.synthetic import draw
from xaikit.methods.base import METHODS, Method
from xaikit.methods.perturbation.xrai import grow, grow_in_order, regions_of
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

pytestmark = pytest.mark.usefixtures("kept_regions")


def xrai(clf: Classifier, **params: object) -> Method:
    return METHODS.get("xrai").build(clf, **params)


def drawn(regions: int, side: int = 20) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a base map and overlapping regions as masks (regions, side, side)."""
    stream = np.random.default_rng(0)
    masks = np.zeros((regions, side, side), dtype=bool)
    for mask in masks:
        top, left = stream.integers(0, side - 4, 2)
        mask[top : top + stream.integers(3, 9), left : left + stream.integers(3, 9)] = True
    return stream.normal(size=(side, side)), list(masks)


@pytest.mark.parametrize("least", [1, 8])
def test_regions_are_taken_by_their_gain(least: int) -> None:
    base, masks = drawn(40)
    expected, free = np.full(base.shape, np.nan), np.ones(base.shape, dtype=bool)
    while masks := [mask for mask in masks if (mask & free).sum() >= least]:
        best = max(masks, key=lambda mask: base[mask & free].mean()) & free
        expected[best], free = base[best].mean(), free & ~best
    expected[free] = base[free].mean()
    found = grow(base, [np.flatnonzero(mask) for mask in drawn(40)[1]], least)
    assert np.allclose(found, expected, atol=1e-12)
    assert abs(found.sum() - base.sum()) < 1e-10


@pytest.mark.parametrize("least", [1, 8])
def test_regions_are_taken_in_the_order_of_their_means(least: int) -> None:
    base, masks = drawn(40)
    expected, free = np.full(base.shape, np.nan), np.ones(base.shape, dtype=bool)
    for mask in sorted(masks, key=lambda one: base[one].mean(), reverse=True):
        new = mask & free
        if new.sum() >= least:
            expected[new], free = base[new].mean(), free & ~new
    expected[free] = base[free].mean()
    found = grow_in_order(base, [np.flatnonzero(mask) for mask in masks], least)
    assert np.allclose(found, expected, atol=1e-12)
    assert abs(found.sum() - base.sum()) < 1e-10
    assert not np.allclose(found, grow(base, [np.flatnonzero(mask) for mask in masks], least))


@pytest.mark.parametrize("take", [grow, grow_in_order])
def test_one_region_or_none_is_the_mean(take: Callable[..., np.ndarray]) -> None:
    base, _ = drawn(1)
    for regions in ([], [np.arange(base.size)]):
        assert np.allclose(take(base, regions), base.mean())


def test_regions_cover_the_picture_at_every_scale_and_overlap() -> None:
    picture = draw(1).pixels[0].permute(1, 2, 0).double().numpy()
    regions = regions_of(picture)
    cover = np.bincount(np.concatenate(regions), minlength=64 * 64)
    assert cover.min() >= 6
    assert cover.max() > 6
    assert all((np.diff(region) > 0).all() for region in regions)


@pytest.mark.slow
def test_the_sum_is_that_of_the_base_map() -> None:
    clf, x = xaikit.load("texture-cnn", device="cpu"), draw(2).pixels
    options = {"steps": 8, "baseline": ("black", "white"), "channels": True}
    base = METHODS.get("integrated-gradients").build(clf, **options).attribute(x, 1).values.double()
    for across, order, expected in (
        ("max", "full", base.amax(1)),
        ("sum", "full", base.sum(1)),
        ("max", "fast", base.amax(1)),
    ):
        found = xrai(clf, steps=8, across=across, order=order).attribute(x, 1).values.double()
        assert torch.allclose(found.sum((1, 2)), expected.sum((1, 2)), atol=1e-4)
        assert found[0].unique().numel() < 300


def test_an_image_of_one_colour_is_one_region() -> None:
    clf = bound(DeepNet())
    x = images(2)
    x[1] = 0.3
    found = xrai(clf, steps=4).attribute(x, 1)
    assert "one-segment" in found.flags[1]
    assert "one-segment" not in found.flags[0]
    assert float(found.values[1].max() - found.values[1].min()) < 1e-12
    assert torch.allclose(found.values[0], xrai(clf, steps=4).attribute(x[:1], 1).values[0])


def test_grey_pictures_and_other_sizes() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    clf = Classifier(network, size=(20, 30))
    found = xrai(clf, steps=2).attribute(torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(0)), 1)
    assert found.values.shape == (1, 20, 30)


def test_passes_are_those_declared() -> None:
    clf, context = bound(GAPNet()), Context()
    method = xrai(clf, steps=5)
    method.attribute(images(2), context=context)
    cost = method.cost((8, 8))
    assert context.counters.backwards == 2 * cost.backwards == 20
    assert context.counters.forwards == 2 * cost.forwards


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1, got 0"),
        ({"across": "mean"}, "across"),
        ({"order": "slow"}, "order"),
        ({"baseline": "grey"}, "baseline|fill"),
        ({"baseline": ()}, "baseline: expected at least one"),
    ],
)
def test_bad_input_is_one_line(params: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        xrai(bound(GAPNet()), **params)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_they_point_at_the_object_and_their_energy_lies_inside(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all methods that search a mask, grow regions or take a variance apart; the paper's margin of 15 at 224."""
    clf, scene = xaikit.load("texture-cnn", device="cpu"), draw(12, seed=11)
    area = scene.objects.float().mean((1, 2))
    near = torch.nn.functional.max_pool2d(scene.objects[:, None].float(), 9, 1, 4)[:, 0].flatten(1)
    rows = {}
    for name, params in {
        "extremal-perturbation": {"steps": 50},
        "meaningful-perturbation": {"steps": 100},
        "xrai": {"steps": 8},
        "sobol": {"samples": 16},
        "hsic": {},
    }.items():
        values = METHODS.get(name).build(clf, **params).attribute(scene.pixels, scene.labels).values.relu()
        points = near.gather(1, values.flatten(1).argmax(1, keepdim=True)).mean()
        inside = (values * scene.objects).sum((1, 2)) / values.sum((1, 2)) / area
        rows[name] = float(points), float(inside.mean())
    table = [f"{name:24s} {points:13.2f}   {inside:20.2f}" for name, (points, inside) in rows.items()]
    with capsys.disabled():
        print("", f"{'method':24s} pointing game   energy inside / area", *table, sep="\n")  # noqa: T201
    for name, (points, inside) in rows.items():
        assert points >= 0.9, name
        assert inside >= 1.5, name


class Steep(torch.nn.Module):
    """Most of the score's change lies in a narrow part of the path, which few steps miss."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))[:, None]
        return torch.cat([mean, mean + (self.slope * (mean - 0.31)).tanh()], 1)


@pytest.mark.slow
@pytest.mark.parametrize("across", ["sum", "max"])
def test_integrals_that_miss_the_score_are_flagged(across: str) -> None:
    x = images(2)
    for slope, missed in ((400.0, True), (0.1, False)):
        clf = Classifier(Steep(slope), channels=3, size=8, mean=0)
        found = xrai(clf, steps=20, across=across).attribute(x, 1)
        assert [("incomplete" in flags) for flags in found.flags] == [missed] * 2
        if across == "max":
            assert found.completeness is None
            continue
        ends = clf(x)[:, 1] - (clf(x * 0)[:, 1] + clf(x * 0 + 1)[:, 1]) / 2
        assert torch.allclose(found.completeness.double(), (found.values.sum((1, 2)) - ends).double(), atol=1e-5)
