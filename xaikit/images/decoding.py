"""Pictures of any kind, decoded as what a network takes: a file, a PIL picture or an array.

    decode       -> RGB or grey with 8 bits a channel, or one float picture in [0, 255] for each channel
    to_pixels    -> (C, H, W) float32 in [0, 1]

Transparent pictures lie on white, colours become grey by 0.299 R + 0.587 G + 0.114 B, and EXIF rotations are applied.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of
from xaikit.images.overlays import Floats
from xaikit.images.scaling import Range, scaled

Array = np.ndarray[Any, Any]
Decoded = Image.Image | tuple[Image.Image, ...]
"""A picture, or a float picture in [0, 255] for each channel."""

_UNREADABLE = frozenset({".heic", ".heif"})
IMAGE_SUFFIXES = _UNREADABLE | {
    *(".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
"""Suffixes of pictures in folders; those that cannot be read are refused by name instead of being passed over."""

# no format that runs other programs
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP") + (
    ("AVIF",) if features.check("avif") else ()
)
_LUMA = (0.299, 0.587, 0.114)
_TOPS = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}


def decode(
    source: str | Path | Image.Image | Array, channels: int = 3, stated: Range | None = None, name: str = "image"
) -> Decoded:
    """Return a picture decoded for a network of `channels` input channels.

    Args:
        source: a file, a PIL picture, or an array (H, W) or (H, W, C).
        channels: 1 or 3; an array may also have other channels, those of the network.
        stated: the values that become black and white, of pictures with more than 8 bits; None takes what the file or
            the type of its values tells.
        name: what messages call a picture that has no file.

    Raises:
        BadInput: the file does not exist, is not a picture, is truncated, exceeds Pillow's limit against decompression
            bombs, its values are outside the range of their type, or it does not have the network's channels. The
            message names the file.
    """
    if isinstance(source, np.ndarray):
        return from_array(source, channels, name, stated)
    name = picture_name(source, name)
    if channels not in (1, 3):
        raise BadInput(f"{name}: pictures have 1 or 3 channels, the network takes {channels}; give an array or tensor")
    kind = "file" if isinstance(source, Image.Image) else kind_of(source)
    if kind not in ("file", "nothing there"):
        remedy = "give its files" if kind == "folder" else "give a file that can be read"
        raise BadInput(f"{name}: expected a picture, got {'a folder' if kind == 'folder' else kind}; {remedy}")
    try:
        if isinstance(source, Image.Image):
            return _as_mode(ImageOps.exif_transpose(source), channels, name, stated)
        with Image.open(source, formats=FORMATS) as image:
            check_pixels(image)
            return _as_mode(ImageOps.exif_transpose(image), channels, name, stated)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise BadInput(f"{name}: expected at most {limit} pixels, got more; make the picture smaller") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise BadInput(f"{name}: no permission to read it; change its permissions") from error
    except UnidentifiedImageError as error:
        got = "an empty file" if Path(name).is_file() and Path(name).stat().st_size == 0 else "something else"
        got = "HEIC, which Pillow does not read" if Path(name).suffix.lower() in _UNREADABLE else got
        raise BadInput(f"{name}: expected a picture, got {got}; give a JPEG or PNG file, for example") from error
    except BadInput:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{name}: the picture is damaged ({reason}); save it again") from error


def from_array(
    values: Array, channels: int, name: str = "image", stated: Range | None = None, top: float | None = None
) -> Decoded:
    """Return an array (H, W) or (H, W, C) as a decoded picture.

    Args:
        values: bool, uint8, uint16 or float in [0, 1]; with a stated range, numbers of any type.
        channels: number of input channels of the network.
        name: what messages call it.
        stated: the values that become 0 and 1.
        top: highest value of the type, if it is not that of the array's own.

    Raises:
        BadInput: another shape, type or range.
    """
    if values.dtype.kind not in "buif":
        raise BadInput(f"{name}: expected numbers, got an array of {values.dtype}; give uint8, or floats in [0, 1]")
    depth = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or depth not in {1, 3, 4, channels}:
        moved = values.ndim == 3 and values.shape[0] in {1, 3, 4, channels}
        remedy = "move the colour axis with array.transpose(1, 2, 0)" if moved else "give one picture"
        raise BadInput(f"{name}: expected an array (H, W) or (H, W, C), got {values.shape}; {remedy}")
    if not values.size:
        raise BadInput(f"{name}: expected at least one pixel, got an array of {values.shape}; leave it out")
    if channels not in (1, 3) and depth != channels:
        raise BadInput(f"{name}: expected an array (H, W, {channels}), got {values.shape}; give the network's channels")
    bands = values.reshape(*values.shape[:2], depth)
    if values.dtype == np.uint8 and stated is None and channels in (1, 3):
        return _as_mode(Image.fromarray(bands[..., 0] if depth == 1 else bands), channels, name, None)
    kind = values.dtype.name
    if stated is None and top is None and values.dtype.kind != "f" and kind not in _TOPS:
        remedy = "convert it, or give value_range=(low, high)"
        raise BadInput(f"{name}: expected uint8, uint16 or floats in [0, 1], got {kind}; {remedy}")
    unit = scaled(bands, name, stated, _TOPS.get(kind) if top is None else top)
    return _deep(np.moveaxis(unit, 2, 0), channels)


def _deep(unit: Floats, channels: int) -> Decoded:
    """Return values (C, H, W) in [0, 1] as float pictures in [0, 255], with the network's channels."""
    if len(unit) == 4 and channels in (1, 3):
        unit = unit[:3] * unit[3] + 1.0 - unit[3]
    if len(unit) == 3 and channels == 1:
        unit = np.tensordot(_LUMA, unit, 1)[None]
    images = tuple(Image.fromarray((255.0 * band).astype(np.float32)) for band in unit)
    return images[0] if channels == 1 else images * (channels if len(images) == 1 else 1)


def check_pixels(image: Image.Image) -> None:
    """Check the size of an opened picture before it is decoded; Pillow itself only warns up to twice its limit.

    Raises:
        DecompressionBombError: it has more pixels than Pillow's limit.
    """
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width}x{height}")


def picture_name(source: object, name: str = "image") -> str:
    """Return what messages call a picture: its path, or `name`.

    Raises:
        BadInput: the source is no picture.
    """
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or name
    if isinstance(source, np.ndarray | Tensor):
        return name
    raise BadInput(f"{name}: expected a path, PIL picture, NumPy array or tensor, got {type(source).__name__}")


def _as_mode(image: Image.Image, channels: int, name: str, stated: Range | None) -> Decoded:
    """Return the picture as RGB or grey, composited on white if it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        top = 65535.0 if values.max(initial=0) <= 65535 else 2.0**31 - 1
        return _deep(scaled(values, name, stated, None if image.mode == "F" else top)[None], channels)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def size_of(image: Decoded) -> tuple[int, int]:
    """Return the (H, W) of a decoded picture."""
    first = image if isinstance(image, Image.Image) else image[0]
    return first.height, first.width


def to_pixels(image: Decoded) -> Tensor:
    """Return a decoded picture as (C, H, W) float32 in [0, 1]."""
    if isinstance(image, tuple):
        return torch.cat([to_pixels(band) for band in image])
    values = np.array(image, dtype=np.float32) / 255.0
    if values.ndim == 2:
        values = values[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).clamp_(0.0, 1.0)
