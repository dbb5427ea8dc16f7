"""Perturbation: fills, blends, ranks, masks, each by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as T

import xaikit
from tests import networks
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generators
from xaikit.images.fills import blend, blurred, check_fill, fill_values, inpainted
from xaikit.images.pixel_order import keep, ranks, removed
from xaikit.model.classifier import Classifier

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def classifier():
    return Classifier(networks.seeded(networks.Net, torch.float32), MEAN, STD)


def pixels():
    return networks.images(2, dtype=torch.float32)


def test_mean_is_zero_and_the_dataset_colour(classifier):
    filled = fill_values(classifier.normalize, pixels(), "mean")
    assert filled.shape == (1, 3, 1, 1)
    assert not filled.any()
    assert not classifier.normalize(torch.tensor(MEAN).reshape(1, 3, 1, 1)).any()


@pytest.mark.parametrize(("fill", "value"), [("black", 0.0), ("white", 1.0)])
def test_plain_colours(classifier, fill, value):
    assert torch.equal(
        fill_values(classifier.normalize, pixels(), fill), classifier.normalize(torch.full((1, 3, 1, 1), value))
    )


def test_image_mean(classifier):
    expected = classifier.normalize(pixels().mean((2, 3), keepdim=True))
    assert torch.equal(fill_values(classifier.normalize, pixels(), "image-mean"), expected)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 1), (8, 8), (3, 8, 8), (2, 3, 8, 8), ()])
def test_given_pixels(classifier, shape):
    fill = torch.rand(shape)
    found = fill_values(classifier.normalize, pixels(), fill)
    assert found.ndim == 4
    expected = classifier.normalize(fill.expand(2, 3, 8, 8))
    assert torch.allclose(found.expand(2, 3, 8, 8), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 1, 1), (3, 8, 7), (3, 3, 8, 8), (1, 2, 3, 8, 8)])
def test_given_pixels_of_another_shape(classifier, shape):
    with pytest.raises(BadInput, match="expected pixels that broadcast to"):
        fill_values(classifier.normalize, pixels(), torch.rand(shape))


def test_unknown_fill():
    for fill in ("grey", 3, None):
        with pytest.raises(BadInput, match="fill: expected one of mean, black"):
            check_fill(fill)


def test_noise_depends_on_its_generator_alone(classifier):
    def noise(images, contents):
        return fill_values(classifier.normalize, images, "noise", generators(0, contents, "fill"))

    both = noise(pixels(), ["a", "b"])
    assert torch.equal(noise(pixels()[1:], ["b"]), both[1:])
    back = both * torch.tensor(STD).reshape(1, 3, 1, 1) + torch.tensor(MEAN).reshape(1, 3, 1, 1)
    assert -1e-6 < back.min() < 0.1
    assert 0.9 < back.max() < 1 + 1e-6
    with pytest.raises(BadInput, match="expected one generator per image for noise, got 0"):
        fill_values(classifier.normalize, pixels(), "noise")


def test_blur_equals_torchvision():
    images = networks.images(2, size=40, dtype=torch.float32)
    expected = T.gaussian_blur(images, [17, 17], [2.0, 2.0])
    assert torch.allclose(blurred(images, 2.0), expected, rtol=0, atol=1e-6)
    assert blurred(images, 0.0) is images
    assert torch.allclose(blurred(torch.full((1, 1, 1, 5), 0.3), 3.0), torch.tensor(0.3))


def test_blur_fill_is_ten_pixels_of_224(classifier):
    images = networks.images(1, size=112, dtype=torch.float32)
    expected = classifier.normalize(blurred(images, 5.0))
    assert torch.equal(fill_values(classifier.normalize, images, "blur"), expected)


@pytest.mark.parametrize("fill", [torch.zeros(1, 3, 1, 1), torch.randn(2, 3, 1, 1), torch.randn(2, 3, 8, 8)])
def test_blend(fill):
    inputs, masks = torch.randn(2, 3, 8, 8), torch.rand(2, 8, 8)
    expected = masks[:, None] * inputs + (1 - masks[:, None]) * fill
    assert torch.allclose(blend(inputs, masks, fill), expected, atol=1e-6)
    assert torch.equal(
        blend(inputs, masks > 0.5, fill), torch.where((masks > 0.5)[:, None], inputs, fill.expand_as(inputs))
    )


def test_ranks_are_stable():
    maps = torch.tensor([[[3.0, 1.0], [1.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert ranks(maps).tolist() == [[3, 0, 1, 2], [0, 1, 2, 3]]
    assert ranks(maps).dtype == torch.int32


def test_removed_is_an_integer_floor():
    assert [removed(level, 10, 49) for level in range(11)] == [0, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49]
    assert removed(3, 10, 10**9) == 3 * 10**8


@pytest.mark.parametrize("level", range(11))
def test_keep_drops_exactly_the_lowest(level):
    maps = networks.images(2, dtype=torch.float32).mean(1)
    count = removed(level, 10, 64)
    masks = keep(ranks(maps), count, (8, 8))
    assert (~masks).flatten(1).sum(1).tolist() == [count, count]
    if 0 < count < 64:
        assert all(one[~kept].max() <= one[kept].min() for one, kept in zip(maps, masks, strict=True))


def test_keep_with_one_count_an_image():
    masks = keep(ranks(torch.rand(2, 8, 8)), torch.tensor([0, 60]), (8, 8))
    assert masks.flatten(1).sum(1).tolist() == [64, 4]


def test_holes_of_pictures_outside_the_unit_range_are_grown_in_their_own():
    kept = torch.ones(1, 8, 8, dtype=torch.bool)
    kept[0, 2:6, 2:6] = False
    low, high = torch.full((1, 3, 8, 8), -1.0), torch.linspace(-2, 2, 8).expand(1, 3, 8, 8)
    assert torch.equal(inpainted(low, kept), low)
    hole = inpainted(high, kept)[0, :, 2:6, 2:6]
    assert torch.allclose(hole, high[0, :, 2:6, 2:6], atol=1.2)
    assert float(hole.min()) < -0.5
    assert float(hole.max()) > 0.5


@pytest.mark.parametrize("method", ["occlusion", "integrated-gradients", "expected-gradients", "deep-lift-shap"])
def test_pixels_of_0_to_255_are_refused_as_fill_baseline_and_reference(classifier, method):
    colour = torch.tensor([124.0, 116.0, 104.0]).reshape(3, 1, 1).expand(3, *pixels().shape[2:])
    name = {"occlusion": "fill", "integrated-gradients": "baseline"}.get(method, "references")
    given = colour if name in ("fill", "baseline") else colour[None]
    with pytest.raises(BadInput, match=r"expected pixels in \[0, 1\], got 104 to 124"):
        xaikit.attribute(classifier, pixels(), method=method, **{name: given})
    with pytest.raises(BadInput, match=r"^fill: expected pixels in"):
        xaikit.keep_curve(classifier, pixels(), torch.rand(2, *pixels().shape[2:]), fill=colour)


def test_a_network_that_is_given_any_pixels_takes_any_fill():
    free = Classifier(networks.seeded(networks.Net, torch.float32))
    assert xaikit.attribute(free, pixels() * 255, method="occlusion", fill=torch.full((3, 1, 1), 120.0)).values.any()
