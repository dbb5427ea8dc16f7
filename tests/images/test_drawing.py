"""Overlays and panels: what the colours mean, and that everything fits."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from xaikit.images.drawing import Map, Tile, illustrate, overlay, panel, saturated, signed_overlay
from xaikit.images.lettering import draw_text, shortened

Array = np.ndarray[Any, Any]
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
RAMP = np.tile(np.linspace(0, 1, 60), (40, 1))


def lightness(picture: Array) -> Array:
    return np.asarray(Image.fromarray(picture).convert("L"), dtype=float)


def test_hotter_is_lighter_on_a_dark_picture() -> None:
    drawn = lightness(overlay(np.zeros_like(PICTURE), RAMP))
    assert (np.diff(drawn[0]) >= -1).all()
    assert drawn[0, -1] - drawn[0, 0] > 100


def test_cold_regions_keep_the_picture() -> None:
    drawn = lightness(overlay(PICTURE, np.zeros((40, 60))))
    correlation = np.corrcoef(drawn.ravel(), lightness(PICTURE).ravel())[0, 1]
    assert correlation > 0.999
    assert drawn.mean() > 0.8 * lightness(PICTURE).mean()


def test_a_heatmap_of_another_size_is_brought_to_the_picture() -> None:
    small = np.zeros((4, 6))
    small[:, 3:] = 1
    drawn = lightness(overlay(np.zeros_like(PICTURE), small))
    assert drawn.shape == (40, 60)
    assert drawn[:, 45:].mean() > drawn[:, :15].mean() + 50


def test_sign_is_blue_and_red_and_zero_has_no_colour() -> None:
    values = np.zeros((40, 60))
    values[:, :20], values[:, 40:] = -1, 1
    drawn = signed_overlay(np.full_like(PICTURE, 128), values).astype(int)
    red, green, blue = drawn[:, :20].mean((0, 1))
    assert blue > red + 50
    red, green, blue = drawn[:, 40:].mean((0, 1))
    assert red > blue + 50
    red, green, blue = drawn[:, 25:35].mean((0, 1))
    assert red == green == blue


def test_signed_overlay_does_not_depend_on_the_unit() -> None:
    values = np.random.default_rng(1).normal(size=(40, 60))
    np.testing.assert_array_equal(signed_overlay(PICTURE, values), signed_overlay(PICTURE, 1e-6 * values))


def test_one_bright_pixel_does_not_darken_a_pixel_map() -> None:
    heat = RAMP * 0.01
    heat[0, 0] = 1
    assert saturated(heat)[20, 59] > 0.9


@pytest.mark.parametrize("heat", [np.zeros((4, 4)), np.ones((4, 4)), np.eye(200)[:100] * (np.arange(200) == 3)])
def test_saturated_maps_stay_in_range(heat: Array) -> None:
    scaled = saturated(heat)
    assert scaled.min() >= 0
    assert scaled.max() == heat.max()


@pytest.mark.parametrize("values", [np.full((40, 60), np.nan), np.full((40, 60), np.inf), np.zeros((40, 60))])
def test_values_that_cannot_be_drawn_leave_a_picture(values: Array) -> None:
    assert overlay(PICTURE, values).shape == PICTURE.shape
    assert np.ptp(signed_overlay(PICTURE, values)) > 0


def test_illustrate_draws_each_map_by_its_kind() -> None:
    signed = np.sign(RAMP - 0.5)
    found = illustrate(PICTURE, [Map("heat", RAMP), Map("pixels", RAMP, RAMP), Map("sign", RAMP, signed, True)], "cat")
    assert list(found.overlays) == ["heat", "pixels", "sign"]
    np.testing.assert_array_equal(found.overlays["heat"], overlay(PICTURE, RAMP))
    np.testing.assert_array_equal(found.overlays["sign"], signed_overlay(PICTURE, signed))


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (64, 64), (100, 150), (224, 224), (900, 500), (5, 600)])
def test_tiles_of_any_size_are_readable(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 200, np.uint8)
    drawn = panel(picture, [("grad-cam", picture)], "a class")
    assert drawn.dtype == np.uint8
    assert 2 * min(224, drawn.shape[1] // 3) < drawn.shape[1] < 1000
    assert drawn.shape[0] < 700


def test_small_pictures_grow_by_a_whole_factor() -> None:
    checkers = np.zeros((32, 32, 3), np.uint8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = 255
    drawn = panel(checkers, [], "")
    assert set(np.unique(drawn[60:200, 60:200])) == {0, 255}


def test_more_than_five_tiles_wrap_into_even_rows() -> None:
    sizes = [panel(PICTURE, [("m", PICTURE)] * count).shape for count in (4, 5, 7)]
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]
    assert sizes[0][1] > sizes[2][1] > sizes[1][1]


def test_a_caption_and_a_colour_bar_are_drawn() -> None:
    plain = panel(PICTURE, [Tile("m", PICTURE, None)], "")
    bar = panel(PICTURE, [Tile("m", PICTURE, "signed")], "")
    assert (plain != bar).any()
    assert panel(PICTURE, [], "caption").shape[0] > panel(PICTURE, [], "").shape[0]


def test_long_text_is_shortened_to_its_width() -> None:
    font = ImageFont.load_default(15)
    text = shortened("a very long class name " * 20, 200, font)
    assert text.endswith("...")
    assert font.getlength(text) <= 200
    assert shortened("cat", 200, font) == "cat"


@pytest.mark.parametrize("text", ["Käse", "Жук", "東京", "a\nb", "\U0001f600", "\x00\ufffd", ""])
def test_any_text_is_drawn(text: str) -> None:
    page = Image.new("RGB", (200, 40), "white")
    draw_text(page, (0, 0), text, 15, (0, 0, 0), 200)
    assert (np.asarray(page).min() < 128) == bool(text)


def test_drawing_needs_no_torch() -> None:
    code = "import sys, xaikit.images.drawing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
