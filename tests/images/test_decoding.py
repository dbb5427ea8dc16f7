"""Arrays as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xaikit.foundation.errors import BadInput
from xaikit.images.decoding import decode, to_pixels

Array = np.ndarray[Any, Any]
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def pixels(values: Any, channels: int = 3, stated: Any = None) -> Array:
    return to_pixels(decode(values, channels, stated)).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_an_array_of_bytes_is_the_picture_that_it_shows(mode: str, channels: int) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(COLOURS[..., 0]))
    np.testing.assert_array_equal(pixels(np.asarray(picture), channels), pixels(picture, channels))


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "uint16"])
def test_deep_colours_keep_their_depth(kind: str) -> None:
    exact = np.random.default_rng(0).random((5, 7, 3))
    values = np.rint(exact * 65535).astype(kind) if kind == "uint16" else exact.astype(kind)
    expected = np.moveaxis(values.astype(float) / (65535 if kind == "uint16" else 1), 2, 0)
    np.testing.assert_allclose(pixels(values), expected, atol=1e-6)
    grey = np.tensordot([0.299, 0.587, 0.114], expected, 1)[None]
    np.testing.assert_allclose(pixels(values, 1), grey, atol=1e-6)
    np.testing.assert_allclose(pixels(values[..., 0]), expected[:1].repeat(3, 0), atol=1e-6)
    np.testing.assert_allclose(pixels(values[..., :1], 1), expected[:1], atol=1e-6)


def test_transparency_of_floats_lies_on_white() -> None:
    values = np.full((2, 2, 4), 0.2)
    values[..., 3] = 0.5
    np.testing.assert_allclose(pixels(values), np.full((3, 2, 2), 0.6), atol=1e-6)


def test_a_network_of_other_channels_takes_arrays_of_its_own() -> None:
    values = np.random.default_rng(0).random((5, 7, 13)).astype(np.float32)
    np.testing.assert_allclose(pixels(values, 13), np.moveaxis(values, 2, 0), atol=1e-6)
    found = pixels(COLOURS.repeat(2, 2)[..., :4], 4)
    np.testing.assert_allclose(found, np.moveaxis(COLOURS.repeat(2, 2)[..., :4] / 255, 2, 0), atol=1e-6)
    with pytest.raises(BadInput, match=r"image: expected an array \(H, W, 13\), got \(5, 7, 3\)"):
        decode(COLOURS, 13)


def test_numbers_of_any_type_with_a_range() -> None:
    values = np.array([[-1024, 0], [1023, 3000]])
    np.testing.assert_allclose(pixels(values, 1, (-1024.0, 1024.0))[0], [[0, 0.5], [2047 / 2048, 1]], atol=1e-6)
    np.testing.assert_array_equal(pixels(np.array([[True, False]]), 1)[0], [[1, 0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 8, 8)), r"got \(3, 8, 8\); move the colour axis with array\.transpose\(1, 2, 0\)"),
        (np.zeros((8, 8, 2)), r"expected an array \(H, W\) or \(H, W, C\), got \(8, 8, 2\); give one picture"),
        (np.zeros(8), r"expected an array \(H, W\) or \(H, W, C\), got \(8,\)"),
        (np.zeros((0, 8, 3)), r"expected at least one pixel, got an array of \(0, 8, 3\)"),
        (np.zeros((8, 8), complex), "expected numbers, got an array of complex128"),
        (np.full((8, 8), "a"), "expected numbers, got an array of <U1"),
        (
            np.zeros((8, 8), int),
            r"expected uint8, uint16 or floats in \[0, 1\], got int64; convert it, or give value_range",
        ),
        (255 * np.eye(8), r"expected a float picture in \[0, 1\], got 0 to 255; give value_range"),
        (np.full((8, 8), np.nan), "expected finite values, got NaN or infinity"),
    ],
)
def test_arrays_that_are_no_pictures(values: Array, message: str) -> None:
    with pytest.raises(BadInput, match=f"^image: .*{message}") as caught:
        decode(values, 3)
    assert "\n" not in str(caught.value)


def test_a_network_of_one_channel_does_not_take_a_stack_for_a_picture() -> None:
    with pytest.raises(BadInput, match="move the colour axis"):
        decode(np.zeros((1, 8, 8)), 1)
    assert to_pixels(decode(torch.rand(3, 8, 3).numpy(), 3)).shape == (3, 3, 8)
