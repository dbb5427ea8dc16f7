"""Shapes: refusals with the remedy, resizing, and the range of a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import check_images, check_maps, per_image, unit, upsample


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (np.zeros((1, 3, 4, 4)), "classifier.read"),
        (torch.zeros(3, 4, 4), r"x\[None\]"),
        (torch.zeros(4, 4), r"x\[None\]"),
        (torch.zeros(1, 4, 4, 3), r"x\.permute\(0, 3, 1, 2\)"),
        (torch.zeros(1, 1, 4, 4), "match the network"),
        (torch.zeros(1, 3, 0, 4), "at least 1x1"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "divide uint8 by 255"),
        (torch.zeros(1, 3, 4, 4, device="meta"), "give an ordinary tensor"),
        (torch.zeros(1, 3, 4, 4).to_sparse(), "give an ordinary tensor"),
    ],
)
def test_refused_with_the_remedy(images, remedy):
    with pytest.raises(BadInput, match=remedy):
        check_images(images, 3)


def test_accepted():
    check_images(torch.zeros(0, 3, 1, 1), 3)
    check_maps(torch.zeros(2, 4, 5), torch.zeros(2, 3, 4, 5))


@pytest.mark.parametrize("maps", [torch.zeros(1, 4, 5), torch.zeros(2, 5, 4), torch.zeros(2, 1, 4, 5), "maps"])
def test_maps_of_another_shape(maps):
    with pytest.raises(BadInput, match=r"maps: expected \(2, 4, 5\)"):
        check_maps(maps, torch.zeros(2, 3, 4, 5))


def test_per_image():
    assert per_image(torch.arange(2), torch.zeros(2, 3, 4)).shape == (2, 1, 1)


def test_upsample_by_hand():
    assert upsample(torch.tensor([[[0.0, 4.0]]]), (1, 4)).tolist() == [[[0.0, 1.0, 3.0, 4.0]]]
    maps = torch.rand(2, 3, 4, 4)
    assert torch.equal(upsample(maps, (9, 7)), F.interpolate(maps, (9, 7), mode="bilinear", align_corners=False))
    assert upsample(maps, (4, 4)) is maps


def test_unit_scales_each_map_for_itself():
    maps = torch.tensor([[[1.0, 3.0], [2.0, 5.0]], [[-10.0, 0.0], [10.0, 5.0]]])
    scaled, constant, invalid = unit(maps)
    assert scaled.tolist() == [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.5], [1.0, 0.75]]]
    assert not constant.any()
    assert not invalid.any()


@pytest.mark.parametrize(("value", "expected"), [(3.0, 1.0), (1e-30, 1.0), (0.0, 0.0), (-3.0, 0.0)])
def test_constant_map(value, expected):
    scaled, constant, invalid = unit(torch.full((2, 3, 3), value))
    assert (scaled == expected).all()
    assert constant.tolist() == [True, True]
    assert invalid.tolist() == [False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("unit_of_score", [1e-30, 1e-14, 1e-6, 1.0, 1e12, 1e30])
def test_the_unit_of_a_map_has_no_effect(unit_of_score, dtype):
    maps = torch.tensor([[[1.0, -1.0], [0.0, 0.1]], [[5.0, 5.5], [6.0, 7.0]]], dtype=dtype)
    scaled, constant, _ = unit(maps * unit_of_score)
    expected = torch.tensor([[[1.0, 0.0], [0.5, 0.55]], [[0.0, 0.25], [0.5, 1.0]]], dtype=dtype)
    torch.testing.assert_close(scaled, expected, rtol=0, atol=1e-5)
    assert not constant.any()


@pytest.mark.parametrize("value", [1e-20, 1e-3, 1.0, 0.3, 7e5])
def test_a_constant_map_stays_constant_when_it_is_enlarged(value):
    scaled, constant, _ = unit(upsample(torch.full((1, 7, 5), value), (224, 163)))
    assert constant.item()
    assert bool((scaled == 1).all())


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_map_that_is_not_finite_is_zeros_and_leaves_the_others_alone(bad):
    maps = torch.stack([torch.arange(4.0).reshape(2, 2)] * 2)
    maps[0, 1, 0] = bad
    scaled, constant, invalid = unit(maps)
    assert not scaled[0].any()
    assert torch.equal(scaled[1], maps[1] / 3)
    assert invalid.tolist() == [True, False]
    assert not constant.any()


def test_a_range_too_large_for_its_type_is_invalid():
    scaled, _, invalid = unit(torch.tensor([[[3e38, -3e38]]]))
    assert invalid.item()
    assert not scaled.any()
