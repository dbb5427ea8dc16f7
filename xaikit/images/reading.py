"""Pictures to pixels, and pixels to image files.

    path, PIL picture or array -> decode -> resize -> pixels, with the frame: what they show of the picture

Shapes: pixels (C, H, W) float32 in [0, 1].
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.files import atomic
from xaikit.images.decoding import Decoded, decode, picture_name, size_of, to_pixels
from xaikit.images.overlays import Picture
from xaikit.images.placing import Frame
from xaikit.images.scaling import Range
from xaikit.images.shapes import check_images

Source = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
Sources = Source | Iterable[Source]

_SHOWN = 1024  # largest side of the originals in figures

ReadPolicy = Literal["weights", "squash", "native", "pad"]
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
            "native" keeps the picture's size; "pad" scales the whole picture to fit and fills the rest (a letterbox).
        size: (H, W) of the result; None only for "native".
        short: length of the short side before the crop.
        interpolation: interpolation filter, applied with antialiasing.
        fill: colour of what "pad" fills, in [0, 1], of each channel or of all; empty is the classifier's mean, or
            black without a classifier.
    """

    kind: Literal["crop", "squash", "native", "pad"]
    size: tuple[int, int] | None = None
    short: int | None = None
    interpolation: Interpolation = "bilinear"
    fill: tuple[float, ...] = ()

    def __call__(self, image: Decoded, name: str = "image") -> Decoded:
        """Return the resized picture.

        Raises:
            BadInput: a picture so narrow that the scaled one would exceed Pillow's limit; the message has its `name`.
        """
        if self.kind == "native" or self.size is None:
            return image
        if isinstance(image, tuple):
            fills = self.fill if len(self.fill) > 1 else (self.fill or (0.0,)) * len(image)
            return tuple(self._resized(band, name, (fill,)) for band, fill in zip(image, fills, strict=True))
        return self._resized(image, name, self.fill or (0.0,))

    def _resized(self, image: Image.Image, name: str, fill: tuple[float, ...]) -> Image.Image:
        assert self.size is not None
        height, width = self.size
        if self.kind == "squash":
            return image.resize((width, height), _FILTERS[self.interpolation])
        scaled = self._scaled(image, name)
        return _centre(scaled, height, width) if self.kind == "crop" else _padded(scaled, height, width, fill)

    def frame(self, original: tuple[int, int]) -> Frame:
        """Return what the network sees of a picture of size `original` = (H, W)."""
        whole = (0.0, 0.0, float(original[0]), float(original[1]))
        if self.kind not in ("crop", "pad") or self.size is None:
            return Frame(original, whole)
        scaled = self._scaled_size(original)
        ends = []
        for side, new, crop in zip(original, scaled, self.size, strict=True):
            start = _margin(new - crop)
            ends.append((start * side / new, (start + crop) * side / new))
        (top, bottom), (left, right) = ends
        return Frame(original, (top, left, bottom, right))

    def _scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (H, W) that fits; of a crop, with the short side at `short` and the long side rounded down."""
        assert self.size is not None
        if self.kind == "pad":
            share = min(new / old for new, old in zip(self.size, size, strict=True))
            return max(1, round(size[0] * share)), max(1, round(size[1] * share))
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


def _padded(image: Image.Image, height: int, width: int, fill: tuple[float, ...]) -> Image.Image:
    """Return the picture in the middle of a colour, which is rounded as the picture's values are."""
    colour = tuple(255.0 * share if image.mode == "F" else round(255 * share) for share in fill)
    bands = len(image.getbands())
    colour *= bands if len(colour) == 1 else 1
    canvas = Image.new(image.mode, (width, height), colour if bands > 1 else colour[0])
    canvas.paste(image, (-_margin(image.width - width), -_margin(image.height - height)))
    return canvas


def _margin(excess: int) -> int:
    return round(excess / 2) if excess >= 0 else -(-excess // 2)


def resize_policy(policy: ReadPolicy | None, own: Resize, fill: tuple[float, ...] = ()) -> Resize:
    """Return the `Resize` of a policy.

    Args:
        policy: "weights" or None for the classifier's own resizing, "squash" to scale both sides to its size, "pad" to
            fit the whole picture into it, "native" to keep the pictures' sizes.
        own: the classifier's own resizing.
        fill: colour of what "pad" fills.

    Raises:
        BadInput: an unknown policy, or "squash" or "pad" without a size.
    """
    if policy is None or policy == "weights":
        return own
    if policy == "native":
        return Resize("native")
    if policy not in ("squash", "pad"):
        raise BadInput(f"resize: expected weights, squash, pad or native, got {policy!r}")
    if own.size is None:
        raise BadInput(f"resize: expected a classifier with a size for {policy}, got none; build it with size=(H, W)")
    return Resize(policy, own.size, interpolation=own.interpolation, fill=fill)


def save_png(path: str | Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG, atomically."""
    with atomic(path) as temporary:
        Image.fromarray(rgb).save(temporary, format="PNG", compress_level=4)  # half the time of 6, files 2 % larger


def to_picture(pixels: Tensor) -> np.ndarray[Any, Any]:
    """Return pixels (C, H, W) as a picture (H, W, 3) uint8; other channels than RGB are shown as their mean."""
    colours = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return (colours.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()


class Read(NamedTuple):
    """A picture as it was read.

    Args:
        pixels: (C, H, W) in [0, 1], what the network sees.
        frame: which part of the original that is; None for a tensor, of which it is unknown.
        original: the whole picture, as decoded; None for a tensor.
    """

    pixels: Tensor
    frame: Frame | None = None
    original: Decoded | None = None

    @property
    def shown(self) -> Picture | None:
        """The whole picture for figures, (H, W, 3) uint8, at its own size up to 1,024 pixels a side."""
        if self.original is None:
            return None
        bands = self.original if isinstance(self.original, tuple) else (self.original,)
        return to_picture(torch.cat([to_pixels(_thumbnail(band)) for band in bands]))


class Pictures(NamedTuple):
    """Pictures of one size as a batch.

    Args:
        pixels: (N, C, H, W) in [0, 1], what the network sees.
        frames: which part of its original each one is; None for tensors; empty if all were tensors.
        originals: the whole pictures (H, W, 3) uint8 for figures, likewise.
    """

    pixels: Tensor
    frames: tuple[Frame | None, ...] = ()
    originals: tuple[Picture | None, ...] = ()


Inputs = Sources | Pictures


def read(source: Source, channels: int, resize: Resize, stated: Range | None = None, name: str = "image") -> Read:
    """Return a picture's pixels, and what they show of it.

    Args:
        source: a path, PIL picture or array, which are resized; or a tensor (C, H, W) in [0, 1], which is not.
        channels: C.
        resize: resizing of the picture.
        stated: the values that become 0 and 1, of pictures with more than 8 bits a channel.
        name: what messages call a picture that is no file.

    Raises:
        BadInput: it cannot be read; the message names it.
    """
    if isinstance(source, Tensor):
        if source.ndim != 3:
            raise BadInput(f"{name}: expected a tensor ({channels}, H, W) in a list, got {tuple(source.shape)}")
        check_images(source[None], channels, name)
        return Read(source.detach().cpu().float())
    image = decode(source, channels, stated, name)
    return Read(to_pixels(resize(image, picture_name(source, name))), resize.frame(size_of(image)), image)


def read_batch(sources: Sources, channels: int, resize: Resize, stated: Range | None = None) -> Tensor:
    """Return pictures as one batch of pixels (N, C, H, W) in [0, 1].

    Args:
        sources: a picture, or several of them, also of different kinds.
        channels: C.
        resize: resizing of each picture.
        stated: as in `read`.

    Raises:
        BadInput: a picture that cannot be read (the message names it), pictures of different sizes, or no picture.
    """
    return torch.stack([found.pixels for found in _of_one_size(sources, channels, resize, stated)])


def read_pictures(sources: Sources, channels: int, resize: Resize, stated: Range | None = None) -> Pictures:
    """Return pictures as one batch, with their originals; arguments and errors as in `read_batch`."""
    rows = [(found.pixels, found.frame, found.shown) for found in _of_one_size(sources, channels, resize, stated)]
    pixels, frames, originals = zip(*rows, strict=True)
    return Pictures(torch.stack(pixels), frames, originals)


def _of_one_size(sources: Sources, channels: int, resize: Resize, stated: Range | None) -> Iterator[Read]:
    size = None
    for source, found in _each(sources, channels, resize, stated):
        if isinstance(found, XaikitError):
            raise found
        size = size or tuple(found.pixels.shape[1:])
        if found.pixels.shape[1:] != size:
            name, other = picture_name(source), tuple(found.pixels.shape[1:])
            raise BadInput(f"{name}: expected the first picture's size {size}, got {other}; read them one at a time")
        yield found
    if size is None:
        raise BadInput("read: expected at least one picture, got none; give paths")


def read_each(
    sources: Sources, channels: int, resize: Resize, stated: Range | None = None
) -> Iterator[tuple[Source, Tensor | XaikitError]]:
    """Yield each source with its pixels (C, H, W), or with the error if it cannot be read."""
    for source, found in _each(sources, channels, resize, stated):
        yield source, found if isinstance(found, XaikitError) else found.pixels


def _each(
    sources: Sources, channels: int, resize: Resize, stated: Range | None
) -> Iterator[tuple[Source, Read | XaikitError]]:
    several = _as_iterable(sources)
    for index, source in enumerate(several):
        try:
            name = f"image {index}" if several is sources else "image"
            yield source, read(source, channels, resize, stated, name)
        except XaikitError as error:
            yield source, error


def _as_iterable(sources: Any) -> Iterable[Any]:
    """Return the pictures one by one; an array (N, H, W, C) holds N of them."""
    if isinstance(sources, np.ndarray):
        return sources if sources.ndim == 4 else [sources]
    if isinstance(sources, str | Path | Image.Image | bytes | Tensor | Mapping) or not isinstance(sources, Iterable):
        return [sources]
    return sources


def _thumbnail(image: Image.Image) -> Image.Image:
    copy = image.copy()
    copy.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return copy
