"""Image files to pixels, and pixels to image files.

    file -> decode (bounded size, EXIF-rotated, alpha on white, 16 bits scaled) -> resize -> (C, H, W) in [0, 1]

Shapes: pixels (C, H, W) float32 in [0, 1], RGB or grey.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.files import atomic, kind_of
from xaikit.images.overlays import Picture
from xaikit.images.placing import Frame
from xaikit.images.shapes import OVERSHOOT

Source = str | Path | Image.Image
Sources = Source | Iterable[Source]

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

_SHOWN = 1024  # largest side of the originals in figures

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
    """How a picture is resized to the network's input size.

    Args:
        kind: "crop" scales the short side to `short` and crops the centre; "squash" scales both sides to `size`;
            "native" keeps the picture's size.
        size: (H, W) of the result; None only for "native".
        short: length of the short side before the crop.
        interpolation: interpolation filter, applied with antialiasing.
    """

    kind: Literal["crop", "squash", "native"]
    size: tuple[int, int] | None = None
    short: int | None = None
    interpolation: Interpolation = "bilinear"

    def __call__(self, image: Image.Image, name: str = "image") -> Image.Image:
        """Return the resized picture.

        Raises:
            BadInput: a picture so narrow that the scaled one would exceed Pillow's limit; the message has its `name`.
        """
        if self.kind == "native" or self.size is None:
            return image
        height, width = self.size
        if self.kind == "squash":
            return image.resize((width, height), _FILTERS[self.interpolation])
        return _centre(self._scaled(image, name), height, width)

    def frame(self, original: tuple[int, int]) -> Frame:
        """Return what the network sees of a picture of size `original` = (H, W)."""
        whole = (0.0, 0.0, float(original[0]), float(original[1]))
        if self.kind != "crop" or self.size is None:
            return Frame(original, whole)
        scaled = self._scaled_size(original)
        ends = []
        for side, new, crop in zip(original, scaled, self.size, strict=True):
            start = _margin(new - crop)
            ends.append((start * side / new, (start + crop) * side / new))
        (top, bottom), (left, right) = ends
        return Frame(original, (top, left, bottom, right))

    def _scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W) with the short side at `short`; the long side is rounded down, as torchvision does."""
        assert self.size is not None
        short = self.short or min(self.size)
        height, width = size
        return (int(short * height / width), short) if width <= height else (short, int(short * width / height))

    def _scaled(self, image: Image.Image, name: str) -> Image.Image:
        width, height = image.size
        new = self._scaled_size((height, width))[::-1]
        if Image.MAX_IMAGE_PIXELS is not None and new[0] * new[1] > Image.MAX_IMAGE_PIXELS:
            raise BadInput(f"{name}: expected a picture that is not so narrow, got {width}x{height}; cut a part out")
        return image if new == image.size else image.resize(new, _FILTERS[self.interpolation])


def _centre(image: Image.Image, height: int, width: int) -> Image.Image:
    """Return the centre crop, rounded as torchvision does; pixels outside a smaller picture are black."""
    left, top = _margin(image.width - width), _margin(image.height - height)
    return image.crop((left, top, left + width, top + height))


def _margin(excess: int) -> int:
    return round(excess / 2) if excess >= 0 else -(-excess // 2)


def resize_policy(policy: ReadPolicy | None, own: Resize) -> Resize:
    """Return the `Resize` of a policy.

    Args:
        policy: "weights" or None for the classifier's own resizing, "squash" to scale both sides to its size, "native"
            to keep the pictures' sizes.
        own: the classifier's own resizing.

    Raises:
        BadInput: an unknown policy, or "squash" without a size.
    """
    if policy is None or policy == "weights":
        return own
    if policy == "native":
        return Resize("native")
    if policy == "squash":
        if own.size is None:
            raise BadInput("resize: expected a classifier with a size for squash, got none; build it with size=(H, W)")
        return Resize("squash", own.size, interpolation=own.interpolation)
    raise BadInput(f"resize: expected weights, squash or native, got {policy!r}")


def decode(source: str | Path | Image.Image, channels: int = 3) -> Image.Image:
    """Return a picture decoded as RGB (3 channels) or grey (1 channel).

    16-bit and float grey keep their full depth: they become a float picture in [0, 255].

    Raises:
        BadInput: the file does not exist, is not a picture, is truncated, exceeds Pillow's limit against decompression
            bombs, is a float picture outside [0, 1], or `channels` is neither 1 nor 3. The message names the file.
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
        if isinstance(source, Image.Image):
            return _as_mode(ImageOps.exif_transpose(source), channels, name)
        with Image.open(source, formats=FORMATS) as image:
            check_pixels(image)
            return _as_mode(ImageOps.exif_transpose(image), channels, name)
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


def check_pixels(image: Image.Image) -> None:
    """Check the size of an opened picture before it is decoded; Pillow itself only warns up to twice its limit.

    Raises:
        DecompressionBombError: it has more pixels than Pillow's limit.
    """
    width, height = image.size
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{width}x{height}")


def picture_name(source: str | Path | Image.Image) -> str:
    """Return the name of a picture in messages: its path, or "image".

    Raises:
        BadInput: the source is neither a path nor a PIL picture.
    """
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "image"
    raise BadInput(f"read: expected a path or a PIL picture, got {type(source).__name__}; tensors need no reading")


def _as_mode(image: Image.Image, channels: int, name: str) -> Image.Image:
    """Return the picture as RGB or grey, composited on white if it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bit_scale(image, name)
        return image if channels == 1 else Image.fromarray(np.rint(np.asarray(image)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _eight_bit_scale(image: Image.Image, name: str) -> Image.Image:
    """Return integer or float grey as a float picture in [0, 255], scaled by the range of its type.

    The range of a float picture is [0, 1]. Values a little outside it, as resampling leaves them, are clipped.

    Raises:
        BadInput: a float picture in another range, which only its maker knows; the message has its `name`.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if image.mode == "F":
        top = 1.0
        if low < -OVERSHOOT or high > 1 + OVERSHOOT:
            raise BadInput(
                f"{name}: expected a float picture in [0, 1], got {low:.3g} to {high:.3g}; scale its values, or save "
                "them as integers"
            )
    else:
        top = 65535.0 if high <= 65535.0 else 2.0**31 - 1
    return Image.fromarray((values.clip(0, top) * (255.0 / top)).astype(np.float32))


def to_pixels(image: Image.Image) -> Tensor:
    """Return a decoded picture as (C, H, W) float32 in [0, 1]."""
    values = np.array(image, dtype=np.float32) / 255.0
    if values.ndim == 2:
        values = values[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).clamp_(0.0, 1.0)


def save_png(path: str | Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG, atomically."""
    with atomic(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="PNG")


def to_picture(pixels: Tensor) -> np.ndarray[Any, Any]:
    """Return pixels (C, H, W) as a picture (H, W, 3) uint8; other channels than RGB are shown as their mean."""
    colours = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return (colours.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()


def read_batch(sources: Sources, channels: int, resize: Resize) -> Tensor:
    """Return pictures as one batch of pixels (N, C, H, W) in [0, 1].

    Args:
        sources: a path or PIL picture, or several of them.
        channels: C.
        resize: resizing of each picture.

    Raises:
        BadInput: a file that cannot be read (the message names it), pictures of different sizes, or no picture.
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


class Read(NamedTuple):
    """A picture as it was read.

    Args:
        pixels: (C, H, W) in [0, 1], what the network sees.
        frame: which part of the original that is.
        original: the whole picture, as decoded.
    """

    pixels: Tensor
    frame: Frame
    original: Image.Image

    @property
    def shown(self) -> Picture:
        """The whole picture for figures, (H, W, 3) uint8, at its own size up to 1,024 pixels a side."""
        return _shown(self.original)


def read(source: Source, channels: int, resize: Resize) -> Read:
    """Return a picture's pixels, and what they show of it.

    Raises:
        BadInput: it cannot be read; the message names it.
    """
    image = decode(source, channels)
    pixels = to_pixels(resize(image, picture_name(source)))
    return Read(pixels, resize.frame((image.height, image.width)), image)


def _shown(image: Image.Image) -> Picture:
    copy = image.copy()
    copy.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return to_picture(to_pixels(copy))


def read_each(sources: Sources, channels: int, resize: Resize) -> Iterator[tuple[Source, Tensor | XaikitError]]:
    """Yield each source with its pixels (C, H, W), or with the error if it cannot be read."""
    for source in _as_iterable(sources):
        try:
            yield source, read(source, channels, resize).pixels
        except XaikitError as error:
            yield source, error


def _as_iterable(sources: Any) -> Iterable[Any]:
    if isinstance(sources, str | Path | Image.Image | bytes | Tensor) or not isinstance(sources, Iterable):
        return [sources]
    return sources
