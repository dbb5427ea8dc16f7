"""Overlays and panels: what the colours mean, and that everything fits."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xaikit.foundation.errors import UnknownName
from xaikit.images.drawing import SIGNED_BAR, Bar, Map, Row, Tile, curves, illustrate, legible, sheet
from xaikit.images.overlays import coloured, overlay, saturated, signed_overlay
from xaikit.images.placing import Frame

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


def test_illustrate_places_each_map_in_the_original() -> None:
    original = np.full((40, 120, 3), 128, np.uint8)
    original[:, 30:90] = PICTURE
    maps = [Map("heat", RAMP), Map("sign", RAMP, RAMP - 0.5, True)]
    found = illustrate(original, maps, "cat", frame=Frame((80, 240), (0.0, 60.0, 80.0, 180.0)))
    for name, whole in illustrate(PICTURE, maps, "cat").overlays.items():
        np.testing.assert_array_equal(found.overlays[name][1:-1, 30:90], whole[1:-1])
        assert found.overlays[name][:, :29].max() < 100


def panel(picture: Array, tiles: list[tuple[str, Array]], caption: str = "", notes: tuple[str, ...] = ()) -> Array:
    shown = [Tile("input", picture, None), *(Tile(*tile) for tile in tiles)]
    return sheet([Row(caption, shown)], notes).pixels


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (64, 64), (100, 150), (224, 224), (900, 500), (5, 600)])
def test_tiles_of_any_size_are_readable(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 200, np.uint8)
    drawn = panel(picture, [("grad-cam", picture)], "a class")
    assert drawn.dtype == np.uint8
    assert 2 * min(224, drawn.shape[1] // 3) < drawn.shape[1] < 1000
    assert drawn.shape[0] < 700


def test_pictures_are_drawn_exactly_and_small_ones_grow_by_a_whole_factor() -> None:
    checkers = np.zeros((32, 32, 3), np.uint8)
    checkers[::2, ::2] = checkers[1::2, 1::2] = 255
    top = 14 + 21  # margin and title
    np.testing.assert_array_equal(panel(checkers, [])[top : top + 224, 14:238], checkers.repeat(7, 0).repeat(7, 1))
    noise = np.random.default_rng(2).integers(0, 256, (224, 300, 3), dtype=np.uint8)
    drawn = panel(noise, [("m", noise)])
    np.testing.assert_array_equal(drawn[top : top + 224, 14:314], noise)
    np.testing.assert_array_equal(drawn[top : top + 224, 326:626], noise)


@pytest.mark.slow
def test_more_than_five_tiles_wrap_into_even_rows() -> None:
    sizes = [panel(PICTURE, [("m", PICTURE)] * count).shape for count in (4, 5, 7)]
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]
    assert sizes[0][1] > sizes[2][1] > sizes[1][1]


def test_a_caption_a_colour_bar_and_notes_are_drawn() -> None:
    bare, heat, signed = (sheet([Row("", [Tile("m", PICTURE, bar)])]).pixels for bar in (None, Bar(), SIGNED_BAR))
    assert (bare != heat).any()
    assert (heat != signed).any()
    assert panel(PICTURE, [], "caption").shape[0] > panel(PICTURE, [], "").shape[0]
    one, two = (panel(PICTURE, [], notes=("a note that is long " * count,)).shape[0] for count in (1, 9))
    assert two > one > panel(PICTURE, []).shape[0]


def test_the_colour_bar_runs_from_low_to_high() -> None:
    bars = sheet([Row("", [Tile("m", PICTURE, Bar()), Tile("m", PICTURE, SIGNED_BAR)])]).pixels
    row = bars[14 + 21 + 160 + 4 + 2].astype(int)
    heat, signed = row[14:254], row[266:506]
    assert heat[2].sum() < 60
    assert heat[-3].sum() > 500
    assert signed[2, 2] > signed[2, 0] + 60
    assert signed[-3, 0] > signed[-3, 2] + 60
    assert signed[120].min() > 230


@pytest.mark.parametrize(
    "text",
    [
        "Käse",
        "Жук",
        "東京",
        "a\nb",
        "\U0001f600",
        "\x00\ufffd",
        "$x^2$",
        r"\alpha",
        "a" * 999,
        "till it fills `it` " * 40,
    ],
)
def test_any_text_is_drawn_in_its_width(text: str) -> None:
    drawn = sheet([Row(text, [Tile(text, PICTURE)])], [text]).pixels
    plain = sheet([Row("", [Tile("", PICTURE)])]).pixels
    assert drawn.shape[1] == plain.shape[1]
    assert (drawn[:, :12] == 255).all()
    assert (drawn[:, -12:] == 255).all()


def test_letters_that_no_font_has_are_replaced() -> None:
    assert legible("Käse  Жук\n") == "Käse Жук"
    assert legible("a\x00b\ue123") == "a?b?"
    assert legible("$x^2$") == "$x^2$"


@pytest.mark.slow
def test_a_sheet_of_several_images_is_a_png() -> None:
    figure = sheet([Row(str(index), [Tile("m", PICTURE)] * 7) for index in range(3)], columns=7)
    width, height = Image.open(BytesIO(figure._repr_png_())).size
    assert figure.pixels.shape == (height, width, 3)
    assert width > 7 * 224
    assert 'alt="a &lt;b&gt; &quot;c&quot;"' in figure.html('a <b> "c"')


def test_curves_are_a_figure_of_lines_and_their_mean() -> None:
    x = np.linspace(0, 1, 11)
    lines = np.random.default_rng(0).random((3, 11))
    figure = curves(x, lines, lines.mean(0), "share removed", "confidence", "soft")
    (axes,) = figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [*lines.tolist(), lines.mean(0).tolist()]  # type: ignore[union-attr]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("share removed", "confidence")


def test_another_colour_map() -> None:
    jet = overlay(PICTURE, RAMP, "jet")
    assert (jet != overlay(PICTURE, RAMP)).any()
    assert coloured(RAMP, "gray")[0, -1].tolist() == [255, 255, 255]
    with pytest.raises(UnknownName, match="unknown colour map 'infernoo'; did you mean inferno"):
        overlay(PICTURE, RAMP, "infernoo")


@pytest.mark.slow
def test_drawing_touches_no_state_of_matplotlib() -> None:
    code = (
        "import sys, matplotlib as mpl; before = mpl.rcParams.copy()\n"
        "from xaikit.images.drawing import Row, Tile, sheet; import numpy as np\n"
        "sheet([Row('a', [Tile('b', np.zeros((4, 4, 3), np.uint8))])]).pixels\n"
        "print(mpl.rcParams.copy() == before, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"


def test_drawing_needs_no_torch() -> None:
    code = "import sys, xaikit.images.drawing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
