"""The flag of maps whose grid does not lie on the image as it is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xaikit


class Body(nn.Module):
    """Two convolutions between what moves the image and what moves the grid; mean pooling reads any of them."""

    def __init__(self, before, after) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.mixed, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
        self.before, self.after = before, after

    def forward(self, x):
        x = self.conv2(self.conv1(self.before(x)).relu()).relu()
        return self.fc(self.mixed(self.after(x)).mean((2, 3)))


def same(x):
    return x


def blocks(x):
    """Each 2 x 2 block of the grid as a row."""
    return x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3).flatten(3)


WRONG = {
    "mirrored": (lambda x: x.flip(3), same),
    "upside down": (lambda x: x.flip(2), same),
    "turned": (lambda x: x.rot90(1, (2, 3)), same),
    "transposed": (same, lambda x: x.transpose(2, 3)),
    "cropped": (lambda x: x[:, :, 6:26, 6:26], same),
    "cropped on one side": (lambda x: x[..., 8:], same),
    "blocks": (same, blocks),
}
RIGHT = {
    "as it is": (same, same),
    "channels reversed": (lambda x: x[:, [2, 1, 0]], same),
    "channels shuffled": (same, lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
    "a row cut off": (lambda x: x[:, :, 1:], same),
    "there and back": (same, lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
    "halves joined again": (lambda x: torch.cat([x[..., :16], x[..., 16:]], 3), same),
}


def flags(moves, method: str, **options) -> set[str]:
    torch.manual_seed(0)
    classifier = xaikit.Classifier(Body(*moves), size=32)
    return xaikit.attribute(classifier, torch.rand(1, 3, 32, 32), 0, method, **options).flags[0]


@pytest.mark.parametrize("moves", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam", "full-grad"])
def test_a_grid_that_lies_elsewhere_is_flagged(method, moves):
    assert "misplaced-grid" in flags(moves, method)


@pytest.mark.parametrize("moves", RIGHT.values(), ids=RIGHT)
def test_a_grid_in_its_place_is_not_flagged(moves):
    assert "misplaced-grid" not in flags(moves, "grad-cam")


def test_a_layer_before_the_grid_is_moved_is_in_its_place():
    assert "misplaced-grid" not in flags(WRONG["transposed"], "grad-cam", layer="conv2")
    assert "misplaced-grid" not in flags(WRONG["mirrored"], "saliency")


@pytest.mark.parametrize("move", [lambda x: x.permute(0, 2, 3, 1), lambda x: x.transpose(2, 3), lambda x: x.roll(3, 2)])
def test_values_moved_before_the_pooling_are_read_before_they_were_moved(move):
    class Pooled(Body):
        def forward(self, x):
            moved = self.after(self.mixed(self.conv1(x)))
            return self.fc(moved.mean([axis for axis in (1, 2, 3) if moved.shape[axis] != 8]))

    torch.manual_seed(0)
    after = nn.Module()
    after.forward = move
    network, pixels = Pooled(same, after).double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    found = xaikit.attribute(xaikit.Classifier(network), pixels, 1, "hires-cam")
    assert found.layer == "mixed"
    assert torch.allclose(found.values.sum((1, 2)), network(pixels)[:, 1] - network.fc.bias[1])
