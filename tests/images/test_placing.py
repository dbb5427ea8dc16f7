"""Maps come back to where the network saw them in the original picture."""

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from xaikit.images.decoding import decode, to_pixels
from xaikit.images.placing import Frame, frame_notes, mark, place
from xaikit.images.reading import Resize


@pytest.mark.parametrize("size", [(188, 500), (500, 188), (250, 167), (64, 64), (40, 300)])
@pytest.mark.parametrize("kind", ["crop", "pad", "squash"])
def test_a_spot_of_the_original_comes_back_to_its_place(size: tuple[int, int], kind: Any) -> None:
    resize = Resize("crop", (224, 224), 256) if kind == "crop" else Resize(kind, (224, 224))
    frame = resize.frame(size)
    top, left, bottom, right = np.clip(frame.box, 0, [*size, *size])
    y, x = top + 0.3 * (bottom - top), left + 0.6 * (right - left)
    grid = np.indices(size) + 0.5
    spread = 0.06 * min(bottom - top, right - left)
    spot = np.exp(-((grid[0] - y) ** 2 + (grid[1] - x) ** 2) / (2 * spread**2))
    seen = to_pixels(resize(Image.fromarray((255 * spot).astype(np.uint8))))[0].double().numpy()
    placed = place(seen, frame)
    centre = [(grid[axis] * placed).sum() / placed.sum() for axis in (0, 1)]
    assert centre == pytest.approx([y, x], abs=0.02 * max(bottom - top, right - left))


@pytest.mark.parametrize(("size", "box"), [((50, 100), (-25, 0, 75, 100)), ((100, 50), (0, -25, 100, 75))])
def test_a_padded_picture_is_whole_in_the_middle_of_its_fill(size: tuple[int, int], box: tuple[float, ...]) -> None:
    resize = Resize("pad", (20, 20), fill=(0.2, 0.4, 0.6))
    assert resize.frame(size) == Frame(size, box)
    assert (resize.frame(size).seen, resize.frame(size).fill) == (1.0, 0.5)
    deep = decode(np.full((*size, 3), 0.9))
    for image, tolerance in ((Image.new("RGB", size[::-1], (230, 230, 230)), 0.5 / 255), (deep, 1e-6)):
        pixels = to_pixels(resize(image)).numpy()
        inside = np.zeros((20, 20), bool)
        inside[(slice(5, 15), slice(None)) if size[0] < size[1] else (slice(None), slice(5, 15))] = True
        expected = np.where(inside, 0.9, np.reshape([0.2, 0.4, 0.6], (3, 1, 1)))
        np.testing.assert_allclose(pixels, expected, atol=tolerance + 0.002)
    grey = Resize("pad", (4, 8), fill=(0.5,))(Image.new("L", (4, 4), 10))
    np.testing.assert_array_equal(np.asarray(grey)[0], [128, 128, 10, 10, 10, 10, 128, 128])
    assert Resize("pad", (8, 8)).frame((1, 1000)) == Frame((1, 1000), (-3.0, 0.0, 5.0, 1000.0))


@pytest.mark.parametrize("size", [(300, 500), (500, 300), (333, 512)])
def test_the_box_is_what_the_crop_shows(size: tuple[int, int]) -> None:
    resize = Resize("crop", (64, 64), 80)
    ramps = np.indices(size).astype(np.float32) + 0.5  # the coordinate of each pixel
    box = resize.frame(size).box
    for axis in (0, 1):
        seen = np.asarray(resize(Image.fromarray(ramps[axis])))
        side = (box[axis + 2] - box[axis]) / 64
        expected = box[axis] + side * (np.arange(64) + 0.5)
        shown = seen.mean(1 - axis)
        assert shown[2:-2] == pytest.approx(expected[2:-2], abs=0.1)


def test_pixels_that_the_network_did_not_see_are_outside() -> None:
    frame = Resize("crop", (224, 224), 224).frame((448, 1000))
    assert frame.box == (0.0, 138 * 2.0, 448.0, 138 * 2.0 + 448)
    placed = place(np.ones((7, 7)), frame, np.nan)
    assert np.isnan(placed[:, :276]).all()
    assert np.isnan(placed[:, 724:]).all()
    assert placed[:, 276:724] == pytest.approx(np.ones((448, 448)))


def test_a_whole_picture_is_interpolated_as_opencv_does() -> None:
    values = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    frame = Resize("squash", (7, 9)).frame((70, 54))
    assert place(values, frame) == pytest.approx(cv2.resize(values, (54, 70)), abs=1e-5)


def test_a_picture_smaller_than_the_crop_lies_inside_the_box() -> None:
    frame = Resize("crop", (100, 100), 60).frame((60, 60))
    assert frame.box == (-20.0, -20.0, 80.0, 80.0)
    values = np.arange(100.0)[:, None] + np.zeros(100)
    assert place(values, frame)[:, 0] == pytest.approx(np.arange(20.0, 80.0))


def test_a_map_finer_than_the_picture_is_averaged() -> None:
    board = np.indices((64, 64)).sum(0) % 2.0
    assert place(board, Frame((8, 8), (0, 0, 8, 8)))[1:-1, 1:-1] == pytest.approx(np.full((6, 6), 0.5), abs=0.01)


def test_what_was_not_seen_is_dimmed_and_what_was_seen_is_framed_and_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 50, 3), dtype=np.uint8)
    marked = mark(picture, Frame((20, 50), (0.0, 15.0, 20.0, 35.0)))
    np.testing.assert_array_equal(marked[1:-1, 15:35], picture[1:-1, 15:35])
    assert (marked[:, [14, 35]] == 255).all()
    assert (marked[[0, -1], 14:36] == 255).all()
    np.testing.assert_array_equal(marked[:, :14], np.rint(0.35 * picture[:, :14]))
    np.testing.assert_array_equal(marked[:, 36:], np.rint(0.35 * picture[:, 36:]))
    for whole in ((0.0, 0.0, 20.0, 50.0), (-15.0, 0.0, 35.0, 50.0)):
        assert mark(picture, Frame((20, 50), whole)) is picture


def test_a_whole_picture_is_whole_at_every_size() -> None:
    for side in range(1025, 1300):
        for resize in (Resize("squash", (8, 8)), Resize("native"), Resize("crop", (8, 8), 8), Resize("pad", (8, 8))):
            assert resize.frame((side, side)).scaled((1024, 1024)).seen == 1.0


def test_shares_and_their_notes() -> None:
    crop, pad = Frame((20, 50), (0.0, 15.0, 20.0, 35.0)), Frame((20, 50), (-15.0, 0.0, 35.0, 50.0))
    assert (crop.seen, crop.fill) == pytest.approx((0.4, 0.0))
    assert (pad.seen, pad.fill) == pytest.approx((1.0, 0.6))
    assert crop.scaled((40, 25)) == Frame((40, 25), (0.0, 7.5, 40.0, 17.5))
    small = Frame((20, 50), (5.0, 20.0, 15.0, 30.0))
    assert frame_notes([crop, pad, small]) == [
        "framed: what the network saw, 10 to 40 % of the picture; it did not see the dimmed rest",
        "not shown: the fill around the picture, 60 % of what the network saw",
    ]
    assert frame_notes([Frame((2, 3), (0.0, 0.0, 2.0, 3.0))]) == []
