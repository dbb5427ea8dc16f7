"""Controls, derived a second time."""

from __future__ import annotations

import torch

from tests.methods.replicas import close, replicates
from tests.networks import GAPNet, bound, images
from xaikit.methods.base import METHODS


@replicates("random")
def _random_is_uniform_and_follows_the_image() -> None:
    clf = bound(GAPNet())
    x = images(2)
    values = METHODS.get("random")(clf).attribute(x).values
    assert 0 <= float(values.min()) <= float(values.max()) < 1
    assert abs(float(values.mean()) - 0.5) < 4 * (1 / 12 / values.numel()) ** 0.5
    assert not torch.equal(values[0], values[1])
    swapped = METHODS.get("random")(clf).attribute(x.flip(0)).values
    assert torch.equal(swapped, values.flip(0))
    assert not torch.equal(METHODS.get("random")(clf).attribute(x, seed=1).values, values)


@replicates("random-grid")
def _random_grid_is_coarse() -> None:
    clf = bound(GAPNet())
    found = METHODS.get("random-grid").build(clf, grid=5).attribute(images(2))
    assert found.values.shape == (2, 5, 5)
    assert 0 <= float(found.values.min()) <= float(found.values.max()) < 1
    assert found.heatmap().shape == (2, 8, 8)


@replicates("center")
def _center_is_a_bell() -> None:
    clf = bound(GAPNet())
    values = METHODS.get("center")(clf).attribute(images(1, size=9)).values[0]
    place = torch.linspace(-2, 2, 9, dtype=torch.float64)
    close(values, torch.outer(torch.exp(-(place**2) / 2), torch.exp(-(place**2) / 2)))


@replicates("edges")
def _edges_of_a_step() -> None:
    clf = bound(GAPNet())
    x = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    x[:, :, :, 4:] = 1
    expected = torch.zeros(1, 8, 8, dtype=torch.float64)
    expected[:, :, 3:5] = 4
    close(METHODS.get("edges")(clf).attribute(x), expected)


@replicates("ones")
def _ones_are_ones() -> None:
    found = METHODS.get("ones")(bound(GAPNet())).attribute(images(2))
    assert torch.equal(found.heatmap(), torch.ones(2, 8, 8, dtype=torch.float64))
    assert found.flags == [{"constant"}, {"constant"}]


@replicates("fake")
def _fake_hides_one_pixel() -> None:
    heatmap = METHODS.get("fake")(bound(GAPNet())).attribute(images(2)).heatmap()
    assert float(heatmap[:, 0, 0].sum()) == 0
    assert float(heatmap.sum()) == 2 * 63
