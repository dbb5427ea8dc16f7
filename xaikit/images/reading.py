"""Image files to pixels, and pixels to image files.

    file -> decode (bounded, EXIF-rotated, alpha on white, 16 bits scaled) -> resize -> (C, H, W) in [0, 1]

Shapes: pixels (C, H, W) float32 in [0, 1], RGB or grey.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.files import atomic, kind_of

Source = str | Path | Image.Image

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})

_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # no format that runs other programs

ReadPolicy = Literal["weights", "squash", "native"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Resize:
    """How a picture becomes the network's input size.

    Args:
        kind: "crop" scales the short side to `short` and cuts the centre out; "squash" scales both sides to `size`;
            "native" leaves the picture as it is.
        size: (H, W) of the result; None only for "native".
        short: length of the short side before the crop.
        interpolation: filter of the scaling, applied with antialiasing.
    """

    kind: Literal["crop", "squash", "native"]
    size: tuple[int, int] | None = None
    short: int | None = None
    interpolation: Interpolation = "bilinear"

    def __call__(self, image: Image.Image, name: str = "image") -> Image.Image:
        """Return the picture at its new size.

        Raises:
            BadInput: a picture so narrow that its long side would pass Pillow's bound; the message has its `name`.
        """
        if self.kind == "native" or self.size is None:
            return image
        height, width = self.size
        if self.kind == "squash":
            return image.resize((width, height), _FILTERS[self.interpolation])
        return _centre(self._scaled(image, name), height, width)

    def _scaled(self, image: Image.Image, name: str) -> Image.Image:
        """Scale the short side to `short`; the long side is rounded down, as torchvision does."""
        assert self.size is not None
        short = self.short or min(self.size)
        width, height = image.size
        new = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
        if Image.MAX_IMAGE_PIXELS is not None and new[0] * new[1] > Image.MAX_IMAGE_PIXELS:
            raise BadInput(f"{name}: expected a picture that is not so narrow, got {width}x{height}; cut a part out")
        return image if new == image.size else image.resize(new, _FILTERS[self.interpolation])


def _centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cut out the centre, rounded as torchvision does; what lies outside a smaller picture is black."""
    left, top = _margin(image.width - width), _margin(image.height - height)
    return image.crop((left, top, left + width, top + height))


def _margin(excess: int) -> int:
    return round(excess / 2) if excess >= 0 else -(-excess // 2)


def resize_policy(asked: ReadPolicy | None, own: Resize) -> Resize:
    """Return how pictures are resized.

    Args:
        asked: "weights" or None is the classifier's own, "squash" scales both sides to its size, "native" leaves
            pictures as they are.
        own: of the classifier.

    Raises:
        BadInput: another word, or "squash" without a size.
    """
    if asked is None or asked == "weights":
        return own
    if asked == "native":
        return Resize("native")
    if asked == "squash":
        if own.size is None:
            raise BadInput("resize: squash needs the classifier's size, got none; build it with size=(H, W)")
        return Resize("squash", own.size, interpolation=own.interpolation)
    raise BadInput(f"resize: expected weights, squash or native, got {asked!r}; choose one")


def decode(source: str | Path | Image.Image, channels: int = 3) -> Image.Image:
    """Open a picture as RGB (3 channels) or grey (1 channel).

    16-bit grey keeps its full depth: it becomes a float picture in [0, 255].

    Raises:
        BadInput: there is no such file, it is no picture, it is cut short, it is larger than Pillow's bound against
            decompression bombs, or the network takes neither 1 nor 3 channels. The message names the file.
    """
    name = picture_name(source)
    if channels not in (1, 3):
        raise BadInput(
            f"{name}: pictures have 1 or 3 channels, the network takes {channels}; build its tensor yourself"
        )
    kind = "file" if isinstance(source, Image.Image) else kind_of(source)
    if kind not in ("file", "nothing there"):
        remedy = "give its files" if kind == "folder" else "give a file that can be read"
        raise BadInput(f"{name}: expected a picture, got {'a folder' if kind == 'folder' else kind}; {remedy}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            if isinstance(source, Image.Image):
                return _as_mode(ImageOps.exif_transpose(source), channels)
            with Image.open(source, formats=_FORMATS) as image:
                return _as_mode(ImageOps.exif_transpose(image), channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
        raise BadInput(f"{name}: expected at most {limit} pixels, got more; make the picture smaller") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{name}: no such file; check the path") from error
    except PermissionError as error:
        raise BadInput(f"{name}: no permission to read it; change its permissions") from error
    except UnidentifiedImageError as error:
        what = "an empty file" if Path(name).is_file() and Path(name).stat().st_size == 0 else "something else"
        raise BadInput(f"{name}: expected a picture, got {what}; give a JPEG, PNG or the like") from error
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{name}: the picture is damaged ({reason}); save it again") from error


def picture_name(source: str | Path | Image.Image) -> str:
    """Return what messages call a picture: its path, or "image".

    Raises:
        BadInput: neither a path nor a PIL picture.
    """
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "image"
    raise BadInput(f"read: expected a path or a PIL picture, got {type(source).__name__}; tensors need no reading")


def _as_mode(image: Image.Image, channels: int) -> Image.Image:
    """Convert to RGB or grey, transparent parts on white."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bit_scale(image)
        return image if channels == 1 else Image.fromarray(np.rint(np.asarray(image)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def _eight_bit_scale(image: Image.Image) -> Image.Image:
    """Bring integer and float grey to a float picture in [0, 255], by the depth of its type."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    if image.mode == "F":
        top = 1.0 if values.max(initial=0.0) <= 1.0 else (255.0 if values.max() <= 255.0 else 65535.0)
    else:
        top = 65535.0 if values.max(initial=0.0) <= 65535.0 else 2.0**31 - 1
    return Image.fromarray((values.clip(0, top) * (255.0 / top)).astype(np.float32))


def to_pixels(image: Image.Image) -> Tensor:
    """Return a decoded picture as (C, H, W) float32 in [0, 1]."""
    values = np.array(image, dtype=np.float32) / 255.0
    if values.ndim == 2:
        values = values[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).clamp_(0.0, 1.0)


def save_png(path: str | Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG, whole or not at all."""
    with atomic(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="PNG")


def to_picture(pixels: Tensor) -> np.ndarray[Any, Any]:
    """Return what the network saw, (H, W, 3) uint8; channels that are no colours are shown as their mean."""
    colours = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return (colours.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()


def read_batch(sources: Source | Iterable[Source], channels: int, resize: Resize) -> Tensor:
    """Read pictures as one batch of pixels (N, C, H, W) in [0, 1].

    Args:
        sources: path, PIL picture, or several of them.
        channels: C.
        resize: brings each to its size.

    Raises:
        BadInput: a file that cannot be read, named; sizes that differ; or no picture.
    """
    images: list[Tensor] = []
    for source, image in read_each(sources, channels, resize):
        if isinstance(image, XaikitError):
            raise image
        images.append(image)
        if image.shape != images[0].shape:
            first, other = tuple(images[0].shape[1:]), tuple(image.shape[1:])
            raise BadInput(f"{source}: expected the first picture's size {first}, got {other}; read them one at a time")
    if not images:
        raise BadInput("read: expected at least one picture, got none; give paths")
    return torch.stack(images)


def read_each(
    sources: Source | Iterable[Source], channels: int, resize: Resize
) -> Iterator[tuple[Source, Tensor | XaikitError]]:
    """Yield each source with its pixels (C, H, W), or with the error that says why it cannot be read."""
    for source in _several(sources):
        try:
            yield source, to_pixels(resize(decode(source, channels), picture_name(source)))
        except XaikitError as error:
            yield source, error


def _several(sources: Any) -> Iterable[Any]:
    if isinstance(sources, str | Path | Image.Image | bytes | Tensor) or not isinstance(sources, Iterable):
        return [sources]
    return sources
