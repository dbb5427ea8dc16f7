"""Image files: every kind a user has, and every way in which one can be broken."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as T

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.decoding import decode, to_pixels
from xaikit.images.reading import Resize, save_png


def gradient(height: int = 6, width: int = 8, depth: int = 255) -> np.ndarray:
    return np.linspace(0, depth, height * width).reshape(height, width)


def rgb(height: int = 6, width: int = 8) -> Image.Image:
    stream = np.random.default_rng(0)
    return Image.fromarray(stream.integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


def array(path, channels: int = 3) -> np.ndarray:
    return np.asarray(decode(path, channels))


def test_rgb_png_is_exact(tmp_path):
    assert np.array_equal(array(saved(tmp_path / "a.png", rgb())), np.asarray(rgb()))


def test_sixteen_bit_png_keeps_its_depth(tmp_path):
    values = gradient(depth=65535).round().astype(np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(values))
    for channels in (1, 3):
        pixels = to_pixels(decode(path, channels))
        assert pixels.shape == (channels, 6, 8)
        assert torch.allclose(pixels.double(), torch.from_numpy(values / 65535), rtol=0, atol=1e-6)


def test_dark_sixteen_bit_picture_stays_dark_and_says_so(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(np.array([[0, 9], [5, 4000]], dtype=np.uint16)))
    with pytest.warns(XaikitWarning, match=r"a\.png: of little contrast, .*; .* value_range=\(0, 4095\)"):
        assert to_pixels(decode(path, 1)).max() == pytest.approx(4000 / 65535)
    assert to_pixels(decode(path, 1, (0, 4095))).max() == pytest.approx(4000 / 4095)


def test_cmyk_jpeg(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 6), (0, 255, 255, 0)))
    assert array(path).shape == (6, 8, 3)
    assert np.abs(array(path).astype(int) - [255, 0, 0]).max() <= 2


def test_grey_and_colour_become_what_the_network_takes(tmp_path):
    grey = gradient().astype(np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(grey))
    assert np.array_equal(array(path, 1), grey)
    assert np.array_equal(array(path), np.stack([grey] * 3, 2))
    assert array(saved(tmp_path / "b.png", rgb()), 1).ndim == 2


def test_palette(tmp_path):
    picture = rgb().quantize(16)
    assert np.array_equal(array(saved(tmp_path / "a.png", picture)), np.asarray(picture.convert("RGB")))


def test_transparent_palette_is_white(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((1, 0), 1)
    for transparency in (0, bytes([0, 255])):
        path = saved(tmp_path / "a.png", picture, transparency=transparency)
        assert array(path).tolist() == [[[255, 255, 255], [255, 0, 0]]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("RGBA", (0, 0, 0, 0), 255), ("RGBA", (0, 0, 0, 255), 0), ("RGBA", (0, 0, 0, 51), 204), ("LA", (0, 51), 204)],
)
def test_alpha_lies_on_white(tmp_path, mode, colour, expected):
    path = saved(tmp_path / "a.png", Image.new(mode, (3, 2), colour))
    assert (array(path) == expected).all()
    assert (array(path, 1) == expected).all()


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", rgb(), exif=exif)
    assert np.array_equal(array(path), np.rot90(np.asarray(rgb()), -1))


def test_animated_gif_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert (array(path) == [255, 0, 0]).all()


def test_a_pil_picture_is_left_as_it_was(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    with Image.open(path) as picture:
        picture.seek(1)
        assert (np.asarray(decode(picture)) == [0, 0, 255]).all()
        assert picture.tell() == 1


def test_one_pixel(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (1, 1), "red"))
    assert to_pixels(Resize("crop", (4, 4), 5)(decode(path))).shape == (3, 4, 4)


def broken(tmp_path, kind: str):
    path = tmp_path / f"{kind}.jpg"
    if kind == "truncated":
        rgb(64, 64).save(path)
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is no picture")
    elif kind == "postscript":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "below a file":
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "a.jpg"
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "damaged"),
        ("empty", "an empty file"),
        ("text", "something else"),
        ("postscript", "something else"),
        ("folder", "a folder"),
        ("missing", "no such file"),
        ("below a file", "no such file"),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path, kind, reason):
    path = broken(tmp_path, kind)
    with pytest.raises(BadInput, match=reason) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_truncated_png(tmp_path):
    path = saved(tmp_path / "a.png", rgb(64, 64))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadInput, match="damaged"):
        decode(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read every file")
def test_unreadable_file(tmp_path):
    path = saved(tmp_path / "a.png", rgb())
    path.chmod(0)
    with pytest.raises(BadInput, match="no permission to read it"):
        decode(path)


def test_permission_denied_says_so(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", rgb())

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(BadInput, match="no permission to read it"):
        decode(path)


@pytest.mark.parametrize(("limit", "refused"), [(200, False), (150, True), (50, True)])
def test_bomb_limit_is_an_error_at_both_of_pillows_levels(tmp_path, monkeypatch, limit, refused):
    """Pillow warns over its limit and raises over twice its limit; both are refused."""
    path = saved(tmp_path / "a.png", rgb(10, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if not refused:
        assert array(path).shape == (10, 20, 3)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BadInput, match=rf"a\.png: expected at most {limit} pixels"):
            decode(path)


def test_reading_in_threads_leaves_the_warnings_filters_alone(tmp_path):
    """Filters belong to the process: two threads that set and restore them leave one's in place for good."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    paths = [saved(tmp_path / f"{number}.png", rgb(64, 64)) for number in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before, seen, together = list(warnings.filters), [], threading.Barrier(4)

        def read(number):
            together.wait()
            for path in paths:
                decode(path)
                seen.append(list(warnings.filters) == before)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read, range(4)))
        assert list(warnings.filters) == before
        assert len(seen) == 32
        assert all(seen)


def test_a_narrow_picture_does_not_become_a_bomb(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("L", (1, 40_000)))
    with pytest.raises(BadInput, match=r"a\.png: .* not so narrow, got 1x40000"):
        Resize("crop", (224, 224), 256)(decode(path), str(path))
    assert Resize("squash", (8, 8))(decode(path)).size == (8, 8)


def test_neither_path_nor_picture():
    for source in (3, None, b"bytes"):
        with pytest.raises(BadInput, match="image: expected a path, PIL picture, NumPy array or tensor, got"):
            decode(source)


def test_four_channels_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="the network takes 4"):
        decode(saved(tmp_path / "a.png", rgb()), 4)


def test_no_file_stays_open_and_no_warning_escapes(tmp_path):
    path = saved(tmp_path / "a.tiff", rgb())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(path)
    path.rename(tmp_path / "b.tiff")


SIZES = [(50, 80), (80, 50), (64, 64), (33, 47), (224, 300), (31, 30), (7, 200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("short", "crop"), [(37, (32, 32)), (64, (48, 40)), (20, (31, 27))])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_crop_equals_torchvision(size, short, crop, interpolation):
    picture = rgb(*size)
    expected = T.center_crop(T.resize(picture, short, T.InterpolationMode(interpolation)), list(crop))
    found = Resize("crop", crop, short, interpolation)(picture)
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("size", SIZES)
def test_squash_equals_torchvision(size):
    picture = rgb(*size)
    expected = T.resize(picture, [32, 48], T.InterpolationMode.BICUBIC)
    found = Resize("squash", (32, 48), interpolation="bicubic")(picture)
    assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert torch.equal(to_pixels(found), T.to_tensor(expected))


def test_native_is_unchanged():
    picture = rgb()
    assert Resize("native")(picture) is picture


def test_save_png(tmp_path):
    values = np.asarray(rgb())
    save_png(tmp_path / "a.png", values)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), values)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# ---- float pictures -------------------------------------------------------------------------------------------------


def floats(low: float = 0.0, high: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(0).random((10, 16)).astype(np.float32)
    values[0, :2] = low, high
    return values


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1.0001), (0, 1.05), (-0.01, 1.2), (-0.2, 1), (0.2, 0.3)])
def test_float_pictures_are_clipped_to_the_unit_interval(tmp_path, low, high, channels):
    values = floats(low, high) if high >= 1 else floats() * 0.1 + 0.2
    expected = np.broadcast_to(values.clip(0, 1), (channels, 10, 16))
    for source in (saved(tmp_path / "a.tif", Image.fromarray(values)), Image.fromarray(values)):
        found = to_pixels(decode(source, channels)).numpy()
        assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize(("low", "high"), [(0, 1.3), (0, 2), (0, 254.6), (0, 255), (0, 4095), (0, 65535), (-1, 1)])
def test_float_pictures_in_another_range_are_refused(tmp_path, low, high):
    path = saved(tmp_path / "a.tif", Image.fromarray(floats(low, high)))
    with pytest.raises(BadInput, match=r"a\.tif: expected a float picture in \[0, 1\], got") as caught:
        decode(path, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "form"),
    [("jfif", "JPEG"), ("jpe", "JPEG"), ("jp2", "JPEG2000"), ("j2k", "JPEG2000"), ("mpo", "MPO"), ("avif", "AVIF")],
)
def test_pictures_of_rarer_kinds_are_read(tmp_path, suffix, form):
    picture = Image.new("RGB", (16, 12), (200, 40, 90))
    picture.save(tmp_path / f"a.{suffix}", format=form)
    assert np.abs(array(tmp_path / f"a.{suffix}").astype(int) - (200, 40, 90)).max() <= 8


@pytest.mark.parametrize("suffix", ["heic", "HEIF"])
def test_heic_is_refused_by_name(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(BadInput, match="HEIC, which Pillow does not read"):
        decode(tmp_path / f"a.{suffix}")
