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
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of
from xaikit.images.formats.format import Stored, format_of, formats
from xaikit.images.formats.pillow import UNREADABLE, of_pillow
from xaikit.images.overlays import Floats
from xaikit.images.scaling import Range, scaled

Array = np.ndarray[Any, Any]
Decoded = Image.Image | tuple[Image.Image, ...]
"""A picture, or a float picture in [0, 255] for each channel."""

IMAGE_SUFFIXES = frozenset().union(*(entry.suffixes for entry in formats()))
"""Suffixes of pictures in folders."""

_LUMA = (0.299, 0.587, 0.114)
_FULL = {"bool": (0.0, 1.0), "uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


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
        return _from_values(Stored(source), channels, name, stated)
    name = picture_name(source, name)
    if channels not in (1, 3):
        raise BadInput(f"{name}: pictures have 1 or 3 channels, the network takes {channels}; give an array or tensor")
    kind = "file" if isinstance(source, Image.Image) else kind_of(source)
    if kind not in ("file", "nothing there"):
        remedy = "give its files" if kind == "folder" else "give a file that can be read"
        raise BadInput(f"{name}: expected a picture, got {'a folder' if kind == 'folder' else kind}; {remedy}")
    try:
        found = of_pillow(source) if isinstance(source, Image.Image) else format_of(source).read(Path(source), stated)
        return _from_values(found, channels, name, stated) if isinstance(found, Stored) else _as_mode(found, channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise BadInput(f"{name}: expected at most {limit} pixels, got more; make the picture smaller") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise BadInput(f"{name}: no permission to read it; change its permissions") from error
    except UnidentifiedImageError as error:
        got = "an empty file" if Path(name).is_file() and Path(name).stat().st_size == 0 else "something else"
        got = "HEIC, which Pillow does not read" if Path(name).suffix.lower() in UNREADABLE else got
        raise BadInput(f"{name}: expected a picture, got {got}; give a JPEG or PNG file, for example") from error
    except BadInput:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{name}: the picture is damaged ({reason}); save it again") from error


def _from_values(stored: Stored, channels: int, name: str, stated: Range | None) -> Decoded:
    """Return values (H, W) or (H, W, C) as a decoded picture.

    Raises:
        BadInput: values of a shape, type or range that is no picture's.
    """
    values = stored.values
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
    stated, full = stated or stored.stated, stored.full or _FULL.get(values.dtype.name)
    plain = values.dtype == np.uint8 and stated is None and full == (0.0, 255.0) and not stored.inverted
    if plain and channels in (1, 3):
        return _as_mode(Image.fromarray(bands[..., 0] if depth == 1 else bands), channels)
    if stated is None and full is None and values.dtype.kind != "f":
        remedy = "convert it, or give value_range=(low, high)"
        raise BadInput(f"{name}: expected uint8, uint16 or floats in [0, 1], got {values.dtype}; {remedy}")
    unit = scaled(bands, name, stated, full)
    return _deep(np.moveaxis(1.0 - unit if stored.inverted else unit, 2, 0), channels)


def _deep(unit: Floats, channels: int) -> Decoded:
    """Return values (C, H, W) in [0, 1] as float pictures in [0, 255], with the network's channels."""
    if len(unit) == 4 and channels in (1, 3):
        unit = unit[:3] * unit[3] + 1.0 - unit[3]
    if len(unit) == 3 and channels == 1:
        unit = np.tensordot(_LUMA, unit, 1)[None]
    images = tuple(Image.fromarray((255.0 * band).astype(np.float32)) for band in unit)
    return images[0] if channels == 1 else images * (channels if len(images) == 1 else 1)


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


def _as_mode(image: Image.Image, channels: int) -> Decoded:
    """Return the picture as RGB or grey, composited on white if it is transparent."""
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
