"""Files of NumPy, and deep pictures of Pillow's formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.images.decoding import IMAGE_SUFFIXES, decode, to_pixels
from xaikit.images.formats.format import PILLOW, format_of, formats, register_format

Array = np.ndarray[Any, Any]
RAMP = np.linspace(0, 4095, 48).astype(np.uint16).reshape(6, 8)


def read(path: Path, stated: Any = None) -> Array:
    return to_pixels(decode(path, 1, stated))[0].double().numpy()


def tiff(path: Path, values: Array, tags: dict[int, int] | None = None, **options: Any) -> Path:
    kind = {"u": "H", "i": "h", "f": "f"}[values.dtype.kind]
    tifffile.imwrite(
        path, values, extratags=[(tag, kind, 1, value, False) for tag, value in (tags or {}).items()], **options
    )
    return path


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "bool"])
def test_an_array_in_a_file_is_the_array(tmp_path: Path, kind: str) -> None:
    top = {"uint8": 255, "uint16": 65535}.get(kind, 1)
    for shape in ((6, 8), (6, 8, 3)):
        values = (np.random.default_rng(0).random(shape) * top).astype(kind)
        np.save(tmp_path / "a.npy", values)
        for channels in (1, 3):
            found, expected = (to_pixels(decode(source, channels)) for source in (tmp_path / "a.npy", values))
            np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_arrays_in_files_that_are_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(BadInput, match=r"a\.npy: expected an array of numbers, got Python objects"):
        decode(path)
    np.save(path, np.zeros((2, 6, 8)))
    with pytest.raises(BadInput, match=r"a\.npy: expected an array \(H, W\) or \(H, W, C\), got \(2, 6, 8\)"):
        decode(path)
    np.save(path, np.zeros((60, 80)))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"a\.npy: the picture is damaged"):
        decode(path)
    np.save(path, np.zeros((60, 80)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(BadInput, match=r"a\.npy: expected at most 4,000 pixels"):
        decode(path)


def test_a_tiff_file_states_its_range(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for tags in ({340: 0, 341: 4095}, {281: 4095}, {280: 0, 281: 4095}):
        np.testing.assert_allclose(read(tiff(path, RAMP, tags)), RAMP / 4095, atol=1e-6)
    signed = RAMP.astype(np.int16) - 1024
    np.testing.assert_allclose(read(tiff(path, signed, {340: -1024, 341: 3071})), RAMP / 4095, atol=1e-6)
    floats = RAMP.astype(np.float32) / 100 - 5
    np.testing.assert_allclose(read(tiff(path, floats, {340: -5, 341: 36})), RAMP / 100 / 41, atol=1e-6)


def test_a_tiff_file_of_several_pictures_is_warned_of(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RAMP, RAMP[::-1]]) * 16, photometric="minisblack")
    with pytest.warns(XaikitWarning, match=r"a\.tif: holds several pictures, the first is read"):
        np.testing.assert_allclose(read(tmp_path / "a.tif"), RAMP * 16 / 65535, atol=1e-6)


def test_where_it_states_none_it_is_warned_of_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for tags in ({}, {281: 4090}):  # the highest value of this picture tells nothing of the type
        with pytest.warns(XaikitWarning, match=r"a\.tif: of little contrast, .* value_range=\(0, 4095\)"):
            np.testing.assert_allclose(read(tiff(path, RAMP, tags)), RAMP / 65535, atol=1e-6)
    signed = RAMP.astype(np.int16) - 1024
    with pytest.raises(BadInput, match=r"a\.tif: expected values from 0 to 65535, got -1024 to 3071; give value_range"):
        read(tiff(path, signed))
    np.testing.assert_allclose(read(path, (-1024.0, 3071.0)), RAMP / 4095, atol=1e-6)


def test_twelve_bits_packed_have_the_range_of_twelve(tmp_path: Path) -> None:
    rows = RAMP.astype(int).reshape(-1, 2)  # two values in three bytes
    packed = np.stack([rows[:, 0] >> 4, (rows[:, 0] & 15) << 4 | rows[:, 1] >> 8, rows[:, 1] & 255], 1)
    header = {256: 8, 257: 6, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 6, 279: packed.size}
    body = packed.astype(np.uint8).tobytes()
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in header.items()
    )
    directory = len(header).to_bytes(2, "little") + entries + bytes(4)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + (8 + len(body)).to_bytes(4, "little") + body + directory)
    np.testing.assert_allclose(read(path), RAMP / 4095, atol=1e-6)


@pytest.mark.parametrize("values", [RAMP * 16, (RAMP // 16).astype(np.uint8), (RAMP / 4095).astype(np.float32)])
def test_white_may_be_the_lowest_value(tmp_path: Path, values: Array) -> None:
    black = read(tiff(tmp_path / "a.tif", values, photometric="minisblack"))
    white = read(tiff(tmp_path / "b.tif", values, photometric="miniswhite"))
    np.testing.assert_allclose(white, 1 - black, atol=1e-6)


def test_a_range_is_for_deep_pictures_alone(tmp_path: Path) -> None:
    Image.fromarray((RAMP // 16).astype(np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read(tmp_path / "a.png", (0.0, 4095.0)), RAMP // 16 / 255, atol=1e-6)
    Image.fromarray(RAMP).save(tmp_path / "b.png")
    np.testing.assert_allclose(read(tmp_path / "b.png", (0.0, 4095.0)), RAMP / 4095, atol=1e-6)


def test_a_format_is_told_by_its_content(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP)
    (tmp_path / "a.npy").rename(tmp_path / "a.jpg")
    assert format_of(tmp_path / "a.jpg").name == "NumPy"
    assert formats()[-1].name == PILLOW
    assert {".npy", ".dcm", ".avif", ".tif", ".png", ".heic"} <= IMAGE_SUFFIXES
    with pytest.raises(BadInput, match="format 'NumPy': expected a new name"):
        register_format("NumPy", suffixes=(), begins=lambda start: False)(format_of(tmp_path / "a.jpg").read)
