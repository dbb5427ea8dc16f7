"""DICOM files: one grey or colour picture, read by pydicom.

    stored values -> modality (slope and intercept, or a table) -> window -> [0, 1], inverted if MONOCHROME1

    window     LINEAR           low = c - 0.5 - (w - 1) / 2, high = c - 0.5 + (w - 1) / 2
               LINEAR_EXACT     low = c - w / 2, high = c + w / 2
               SIGMOID          1 / (1 + exp(-4 (x - c) / w))
               or a table; the first where there are several
    without    the full range of the stored bits

A range that the user states replaces the window, in the units of the modality, such as Hounsfield units.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from xaikit.foundation.errors import BadInput, MissingExtra
from xaikit.images.formats.format import Stored, check_pixels, register_format
from xaikit.images.scaling import Range

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@register_format("DICOM", suffixes=(".dcm", ".dicom"), begins=lambda start: start[128:132] == b"DICM")
def read(path: Path, stated: Range | None) -> Stored:
    """Return the picture of a file.

    Raises:
        BadInput: it has no pixels, several frames, or a compression for which a package is missing.
        MissingExtra: pydicom is not installed.
        ValueError: it is damaged.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtra("pydicom", "medical") from error
    damage = (ArithmeticError, AssertionError, AttributeError, RuntimeError, TypeError)
    try:
        data = pydicom.dcmread(path)
        _check(data, path)
        return _picture(data, stated)
    except (*damage, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
        raise ValueError(error) from error


def _picture(data: Any, stated: Range | None) -> Stored:
    """Return the picture of a dataset."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

    pixels = data.pixel_array
    photometric = str(data.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data)
        return Stored(colours, full=(0.0, float(np.iinfo(colours.dtype).max)))
    if pixels.ndim == 3:
        return Stored(pixels, full=(0.0, 2.0 ** int(data.BitsStored) - 1))
    values = apply_modality_lut(pixels, data)
    inverted = photometric == "MONOCHROME1"
    if stated is not None:
        return Stored(values, stated, inverted=inverted)
    if "VOILUTSequence" in data:
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return Stored(apply_voi(values, data), (0.0, 2.0**bits - 1), inverted=inverted)
    centre, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    if centre is not None and width is not None:
        return _windowed(values, centre, width, str(data.get("VOILUTFunction", "LINEAR")))._replace(inverted=inverted)
    return Stored(values, full=_full_range(data), inverted=inverted)


def _check(data: Any, path: Path) -> None:
    """Check that a file has one picture that can be decoded."""
    from pydicom.pixels.decoders.base import get_decoder

    if not any(name in data for name in _PIXELS):
        kind = data.get("Modality") or "no modality"
        raise BadInput(f"{path}: expected a DICOM file with a picture, got one without pixels ({kind}); give an image")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        remedy = "give one as an array, of pydicom.dcmread(file).pixel_array"
        raise BadInput(f"{path}: expected one picture, got {frames} frames; {remedy}")
    check_pixels(int(data.get("Columns", 0)), int(data.get("Rows", 0)))
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise BadInput(f"{path}: compressed as {syntax.name}, which pydicom does not read; save it again") from error
    if not decoder.is_available:
        packages = " ".join(re.findall(r"([\w-]+)>=", decoder.missing_dependencies[-1]))
        raise BadInput(f"{path}: compressed as {syntax.name}, for which a package is missing; pip install {packages}")


def _windowed(values: np.ndarray[Any, Any], centre: float, width: float, function: str) -> Stored:
    """Return values with the range of a window."""
    if function == "SIGMOID":
        return Stored(1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width)), (0.0, 1.0))
    if function == "LINEAR_EXACT":
        low, high = centre - width / 2, centre + width / 2
    else:
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    if not low < high:  # a width of 1 is a threshold
        return Stored((values > low).astype(np.float64))
    return Stored(values, (low, high))


def _full_range(data: Any) -> Range | None:
    """Return the lowest and highest value of the stored bits, as the modality gives them; None for floats."""
    if "PixelData" not in data:
        return None
    if "ModalityLUTSequence" in data:
        return 0.0, 2.0 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits, signed = int(data.BitsStored), int(data.PixelRepresentation)
    ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    low, high = sorted(slope * end + intercept for end in ends)
    return low, high


def _first(value: Any) -> float | None:
    """Return a number, or the first of several."""
    if value is None or value == "":
        return None
    return float(value if isinstance(value, int | float) else value[0])
