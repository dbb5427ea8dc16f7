"""The flag of maps whose grid does not lie on the image as it is drawn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import xaikit
from tests.networks.tokens import Tokens, seeded


def canvas(x, side):
    blank = x.new_zeros(*x.shape[:2], side, side)
    blank[:, :, : x.shape[2], : x.shape[3]] = x
    return blank


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
    "padded to a square": (lambda x: F.pad(x, (0, 24)), same),
    "padded all around": (lambda x: F.pad(x, (12, 12, 12, 12)), same),
    "on a canvas": (lambda x: canvas(x, 48), same),
    "cut by padding": (lambda x: F.pad(x, (-8, 0, 0, 0)), same),
    "transposed by einsum": (same, lambda x: torch.einsum("nchw->ncwh", x)),
    "transposed by mT": (lambda x: x.mT, same),
    "mirrored by a matrix": (lambda x: x @ torch.eye(32).flip(0), same),
    "mirrored by a linear map": (lambda x: F.linear(x, torch.eye(32).flip(0)), same),
    "mirrored by an index": (lambda x: torch.zeros_like(x).index_copy(3, torch.arange(31, -1, -1), x), same),
    "turned by a spectrum": (lambda x: torch.fft.ifft2(torch.fft.fft2(x).conj()).real, same),
    "a spectrum": (lambda x: torch.fft.fft2(x).abs(), same),
    "a column": (same, lambda x: x.flatten(2).unsqueeze(3)),
    "two views": (lambda x: torch.cat([x, 0.5 * x], 3), same),
    "tiled": (lambda x: x.repeat(1, 1, 2, 1), same),
    "every second row, then the others": (lambda x: torch.cat([x[:, :, ::2], x[:, :, 1::2]], 2), same),
    "quarters on each other": (lambda x: sum(part for half in x.chunk(2, 2) for part in half.chunk(2, 3)), same),
    "rolled by a quarter": (lambda x: x.roll(8, 3), same),
    "halves exchanged": (lambda x: torch.fft.fftshift(x, (2, 3)), same),
    "rows shuffled": (lambda x: x[:, :, torch.randperm(32, generator=torch.Generator().manual_seed(0))], same),
}
RIGHT = {
    "as it is": (same, same),
    "channels reversed": (lambda x: x[:, [2, 1, 0]], same),
    "channels shuffled": (same, lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)),
    "a row cut off": (lambda x: x[:, :, 1:], same),
    "there and back": (same, lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
    "padded by a pixel": (lambda x: F.pad(x, (1, 1, 1, 1)), same),
    "on a canvas of its size": (lambda x: canvas(x, 32), same),
    "there and back by a spectrum": (lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real, same),
    "by a matrix": (lambda x: x @ torch.eye(32), same),
    "windows": (same, lambda x: x.unflatten(3, (4, 4)).flatten(3)),
    "enlarged": (lambda x: F.interpolate(x, scale_factor=2), same),
    "coordinates beside it": (lambda x: torch.cat([x[:, :2], torch.linspace(0, 1, 32).expand_as(x[:, :1])], 1), same),
    "halves joined again": (lambda x: torch.cat([x[..., :16], x[..., 16:]], 3), same),
}


def flags(moves, method: str, **options) -> set[str]:
    torch.manual_seed(0)
    classifier = xaikit.Classifier(Body(*moves), size=32)
    return xaikit.attribute(classifier, torch.rand(1, 3, 32, 32), 0, method, **options).flags[0]


def kinds(cases, fast):
    """Return the cases as parameters, of which the first ones are in the fast suite."""
    slow = pytest.mark.slow
    return [pytest.param(case, id=name, marks=[slow] * (n >= fast)) for n, (name, case) in enumerate(cases.items())]


@pytest.mark.parametrize("moves", kinds(WRONG, 14))
def test_a_grid_that_lies_elsewhere_is_flagged(moves):
    assert "misplaced-grid" in flags(moves, "grad-cam")


@pytest.mark.parametrize("method", ["eigen-cam", "score-cam", "layer-cam", "full-grad"])
def test_any_method_that_reads_the_layer_is_flagged(method):
    for kind in ("mirrored", "a column"):
        assert "misplaced-grid" in flags(WRONG[kind], method)


@pytest.mark.parametrize("moves", kinds(RIGHT, 6))
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


class Cropping(Body):
    """Cuts the black border of each picture off, and perhaps resizes what is left."""

    def __init__(self, resized: bool) -> None:
        super().__init__(self.cut, same)
        self.resized = resized

    def cut(self, x):
        seen = x.amax((0, 1)) > 0.02
        rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        inside = x[:, :, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
        return F.interpolate(inside, x.shape[2:]) if self.resized else inside


class Turning(Body):
    """A spatial transformer: turns bright pictures upside down, or zooms in on them."""

    def __init__(self, zoom: float) -> None:
        super().__init__(self.moved, same)
        self.zoom = zoom

    def moved(self, x):
        scale = torch.where(x.mean((1, 2, 3)) > 0.6, self.zoom, 1.0)
        theta = torch.eye(2, 3).expand(len(x), 2, 3) * scale[:, None, None]
        return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


class Branching(Body):
    """Turns bright pictures only, without another tensor to tell it."""

    def __init__(self) -> None:
        super().__init__(lambda x: x.flip(2) if bool(x.mean() > 0.6) else x, same)


@pytest.mark.parametrize(("method", "resized"), [("eigen-cam", False), ("layer-cam", True)])
def test_a_grid_that_lies_elsewhere_for_the_pictures_at_hand_is_flagged(method, resized):
    torch.manual_seed(0)
    classifier = xaikit.Classifier(Cropping(resized), size=32)
    framed, whole = torch.zeros(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    framed[:, :, 7:25, 9:27] = torch.rand(1, 3, 18, 18)
    for x, expected in [(whole, set()), (framed, {"misplaced-grid"}), (whole, set()), (framed, {"misplaced-grid"})]:
        assert xaikit.attribute(classifier, x, 0, method).flags == [expected]


@pytest.mark.parametrize("make", [lambda: Turning(-1.0), lambda: Turning(0.5), Branching], ids=["turn", "zoom", "if"])
def test_each_image_is_judged_where_the_network_moves_some(make):
    torch.manual_seed(0)
    classifier = xaikit.Classifier(make(), size=32)
    dark = torch.rand(3, 3, 32, 32) / 2
    bright = dark + 0.5
    for x, expected in [(dark, set()), (bright, {"misplaced-grid"})]:
        assert xaikit.attribute(classifier, x, 0, "grad-cam").flags == [expected] * 3
    if make is not Branching:
        mixed = torch.cat([dark[:1], bright[:1]])
        assert xaikit.attribute(classifier, mixed, 0, "hires-cam").flags == [set(), {"misplaced-grid"}]


class TwoWays(Body):
    """Two branches, one of which turns the features; no layer is common to both."""

    def forward(self, x):
        first = self.conv1(x).relu()
        second = self.conv2(first.rot90(1, (2, 3)))
        return self.fc(self.mixed(first).mean((2, 3)) + second.mean((2, 3)))


class ThereAndBack(Body):
    """The first layer lies elsewhere, the last in its place."""

    def forward(self, x):
        first = self.conv1(x.rot90(1, (2, 3))).relu()
        return self.fc(self.conv2(first.rot90(-1, (2, 3))).relu().mean((2, 3)))


def test_each_layer_that_is_read_is_judged():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 32, 32)
    ways = xaikit.Classifier(TwoWays(same, same), size=32)
    back = xaikit.Classifier(ThereAndBack(same, same), size=32)
    for classifier, options, wrong in [
        (ways, {"layer": "conv2"}, True),
        (ways, {"layer": "mixed"}, False),
        (back, {}, False),
        (back, {"shallower": "conv1"}, True),
    ]:
        found = xaikit.attribute(classifier, x, 0, "layer-cam", **options)
        assert found.flags == [{"misplaced-grid"} if wrong else set()] * 2


@pytest.mark.parametrize(
    "build", [lambda: Body(same, lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)), Tokens]
)
def test_a_layer_is_judged_once_where_its_pictures_do_not_matter(build):
    network, size = seeded(build).float(), (32, 32) if build is not Tokens else (16, 24)
    classifier = xaikit.Classifier(network, size=size)
    xaikit.attribute(classifier, torch.rand(1, 3, *size), 0, "grad-cam")
    seen: list[int] = []
    network.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    for count in (1, 3):
        xaikit.attribute(classifier, torch.rand(count, 3, *size), 0, "grad-cam")
        xaikit.attribute(classifier, torch.rand(count, 3, *size), 0, "eigen-cam")
    assert seen == [1, 1, 3, 3]
