"""DICOM files that pydicom writes here: every range and photometric interpretation, and what cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from xaikit.foundation.errors import BadInput, MissingExtra, XaikitWarning
from xaikit.images.decoding import decode, to_pixels

Array = np.ndarray[Any, Any]
RAMP = np.linspace(0, 4095, 48).astype(np.uint16).reshape(6, 8)


def written(path: Path, pixels: Array | None, bits: int = 12, **facts: Any) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = facts.pop("syntax", ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Modality = "OT"
    if pixels is not None:
        colour = pixels.ndim == 3
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
        if colour:
            data.PlanarConfiguration = 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PixelData = pixels.tobytes()
    for name, value in facts.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def read(path: Path, channels: int = 1, stated: Any = None) -> Array:
    return to_pixels(decode(path, channels, stated))[0].double().numpy()


def test_without_a_window_the_stored_bits_are_the_range(tmp_path: Path) -> None:
    path = written(tmp_path / "a", RAMP)  # the content tells the format, not the name
    np.testing.assert_allclose(read(path), RAMP / 4095, atol=1e-6)
    np.testing.assert_allclose(read(path, 3), RAMP / 4095, atol=1e-6)
    signed = (RAMP.astype(np.int16) - 2048) // 1
    path = written(tmp_path / "b", signed, RescaleSlope="2", RescaleIntercept="-1000")
    np.testing.assert_allclose(read(path), RAMP / 4095, atol=1e-6)


def test_a_window_is_in_units_of_the_modality(tmp_path: Path) -> None:
    hounsfield = RAMP - 1024.0
    facts: dict[str, Any] = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    for window, low, high in (
        ({"WindowCenter": "40", "WindowWidth": "400"}, 39.5 - 199.5, 39.5 + 199.5),
        ({"WindowCenter": ["40", "300"], "WindowWidth": ["400", "1500"]}, -160, 239),
        ({"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": "LINEAR_EXACT"}, -160, 240),
    ):
        path = written(tmp_path / "a", RAMP, **facts, **window)
        np.testing.assert_allclose(read(path), ((hounsfield - low) / (high - low)).clip(0, 1), atol=1e-6)
    path = written(tmp_path / "a", RAMP, **facts, WindowCenter="40", WindowWidth="400", VOILUTFunction="SIGMOID")
    np.testing.assert_allclose(read(path), 1 / (1 + np.exp(-4 * (hounsfield - 40) / 400)), atol=1e-6)
    stated = ((hounsfield + 1000) / 2000).clip(0, 1)
    np.testing.assert_allclose(read(path, stated=(-1000.0, 1000.0)), stated, atol=1e-6)
    path = written(tmp_path / "a", RAMP, **facts, WindowCenter="0.5", WindowWidth="1")
    np.testing.assert_array_equal(read(path), hounsfield > 0)


def test_windows_agree_with_pydicom(tmp_path: Path) -> None:
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        path = written(
            tmp_path / "a", RAMP, RescaleSlope="1.5", RescaleIntercept="-1024", WindowCenter="900", WindowWidth="2500"
        )
        data = pydicom.dcmread(path)
        data.VOILUTFunction = function
        data.save_as(path)
        expected = apply_windowing(apply_modality_lut(data.pixel_array, data), data)
        expected = (expected + 1024) / (1.5 * 4095)  # pydicom's result lies in the full range
        np.testing.assert_allclose(read(path), expected, atol=1e-6)


def test_the_lowest_value_of_monochrome1_is_white(tmp_path: Path) -> None:
    path = written(tmp_path / "a", RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read(path), 1 - RAMP / 4095, atol=1e-6)
    np.testing.assert_allclose(read(path, stated=(0.0, 8190.0)), 1 - RAMP / 8190, atol=1e-6)
    bytes_ = (RAMP // 16).astype(np.uint8)
    path = written(tmp_path / "a", bytes_, 8, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read(path), 1 - bytes_ / 255, atol=1e-6)


def test_tables_of_the_modality_and_of_the_window(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (np.sqrt(np.arange(4096) / 4095) * 65535).round().astype(np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        path = written(tmp_path / "a", RAMP, **{name: pydicom.Sequence([table])})
        np.testing.assert_allclose(read(path), np.sqrt(RAMP / 4095), atol=1e-5)


def test_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path = written(tmp_path / "a", colours, 8)
    np.testing.assert_array_equal(np.asarray(decode(path)), colours)
    deep = colours.astype(np.uint16) * 16
    path = written(tmp_path / "a", deep, 12)
    np.testing.assert_allclose(to_pixels(decode(path)).numpy(), np.moveaxis(deep / 4095, 2, 0), atol=1e-6)
    converted = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    path = written(tmp_path / "a", converted, 8, PhotometricInterpretation="YBR_FULL")
    assert np.abs(np.asarray(decode(path)).astype(int) - colours).max() <= 3
    palette = {
        f"{name}PaletteColorLookupTableData": (np.arange(256) * 257).astype(np.uint16).tobytes()
        for name in ("Red", "Green", "Blue")
    }
    tables = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    path = written(tmp_path / "a", colours[..., 0], 8, PhotometricInterpretation="PALETTE COLOR", **palette, **tables)
    np.testing.assert_allclose(to_pixels(decode(path)).numpy()[1], colours[..., 0] / 255, atol=1e-4)


def test_compressed_by_a_codec_that_is_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a", RAMP)
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless)
    data.save_as(path)
    np.testing.assert_allclose(read(path), RAMP / 4095, atol=1e-6)


def encapsulated(path: Path, syntax: Any) -> Path:
    from pydicom.encaps import encapsulate

    return written(path, RAMP, syntax=syntax, PixelData=encapsulate([b"\0" * 64]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: written(path, None), r"expected a DICOM file with a picture, got one without pixels \(OT\)"),
        (
            lambda path: written(path, RAMP.repeat(4, 0), NumberOfFrames=4, Rows=6),
            "expected one picture, got 4 frames; give one as an array",
        ),
        (
            lambda path: encapsulated(path, pydicom.uid.JPEGLSLossless),
            r"compressed as JPEG-LS Lossless Image Compression, for which a package is missing; pip install pyjpegls",
        ),
        (
            lambda path: encapsulated(path, pydicom.uid.JPEGLosslessSV1),
            "a package is missing; pip install pylibjpeg pylibjpeg-libjpeg",
        ),
        (lambda path: encapsulated(path, pydicom.uid.MPEG2MPML), "which pydicom does not read"),
        (lambda path: encapsulated(path, pydicom.uid.RLELossless), "the picture is damaged"),
        (lambda path: written(path, RAMP, PixelData=b"\0" * 20), "the picture is damaged"),
        (lambda path: cut(written(path, RAMP), 200), "got one without pixels|the picture is damaged"),
        (lambda path: cut(written(path, RAMP), -40), "the picture is damaged"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, make: Any, message: str) -> None:
    path = make(tmp_path / "a.dcm")
    with pytest.raises(BadInput, match=message) as caught:
        decode(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def test_a_range_that_the_values_do_not_use_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", RAMP, 16)
    with pytest.warns(XaikitWarning, match=r"a\.dcm: of little contrast, .* 0 to 4095 of 0 to 65535"):
        read(path)


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"pydicom is not installed; run: pip install 'xaikit\[medical\]'"):
        decode(path)
