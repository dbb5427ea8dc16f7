"""Fills: the values of removed pixels.

    masked = m * x + (1 - m) * b           m in [0, 1], fill b

All values are in the network's own coordinates, where the mean colour is zero and `m * x` is the product used in the
literature. `fill_values` and `segment_mean` do not depend on the mask; `inpainted` does (OpenCV's Telea inpainting).

Shapes: inputs (N, C, H, W); masks and segments (N, H, W).
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import check_range

Fill = Literal["mean", "black", "white", "image-mean", "blur", "noise"]

_BLUR_SHARE = 10 / 224  # sigma of the blur fill as a share of the short side
_INPAINT_RADIUS = 3


def check_fill(fill: Fill | Tensor) -> None:
    """Check that a fill is one of the `Fill` names or a tensor.

    Raises:
        BadInput: any other fill.
    """
    if not isinstance(fill, Tensor) and fill not in get_args(Fill):
        raise BadInput(f"fill: expected one of {', '.join(get_args(Fill))} or pixels as a tensor, got {fill!r}")


def fill_values(
    normalize: Callable[[Tensor], Tensor],
    pixels: Tensor,
    fill: Fill | Tensor,
    generators: Sequence[torch.Generator] = (),
    *,
    bounded: bool = True,
) -> Tensor:
    """Return the values of removed pixels, in the network's coordinates.

    Args:
        normalize: function from pixels to the network's coordinates.
        pixels: (N, C, H, W) in [0, 1].
        fill: "mean" for the data's mean colour (zero in the network's coordinates), "black", "white", "image-mean" for
            each image's mean colour, "blur" for a Gaussian blur of sigma 10 px at 224, "noise" for uniform noise in
            [0, 1]; or pixels that broadcast to (N, C, H, W).
        generators: one generator per image, for "noise".
        bounded: whether pixels have to lie in [0, 1].

    Returns:
        (N or 1, C, H or 1, W or 1); axes along which the fill is constant have length 1.

    Raises:
        BadInput: an unknown fill, or pixels of the wrong shape or range.
    """
    check_fill(fill)
    channels = pixels.shape[1]
    if isinstance(fill, Tensor):
        check_range(fill, bounded=bounded, name="fill")
        return normalize(_fill_pixels(fill, pixels))
    if fill == "mean":
        return pixels.new_zeros(1, channels, 1, 1)
    if fill in ("black", "white"):
        return normalize(pixels.new_full((1, channels, 1, 1), float(fill == "white")))
    if fill == "image-mean":
        return normalize(pixels.mean((2, 3), keepdim=True))
    if fill == "blur":
        return normalize(blurred(pixels, _BLUR_SHARE * min(pixels.shape[-2:])))
    if len(generators) != len(pixels):
        raise BadInput(f"fill: expected one generator per image for noise, got {len(generators)}")
    noise = torch.stack(
        [torch.rand(pixels.shape[1:], generator=stream, dtype=torch.float32, device="cpu") for stream in generators]
    )
    return normalize(noise.to(pixels))


def _fill_pixels(fill: Tensor, pixels: Tensor) -> Tensor:
    """Return fill pixels with four axes that broadcast to `pixels`."""
    try:
        torch.broadcast_to(fill.to(pixels), pixels.shape)
    except RuntimeError as error:
        shapes = f"{tuple(pixels.shape)}, got {tuple(fill.shape)}"
        raise BadInput(f"fill: expected pixels that broadcast to {shapes}; give (C, 1, 1) for one colour") from error
    fill = fill.to(pixels)
    return fill.reshape(*[1] * (4 - fill.ndim), *fill.shape)


def segment_mean(pixels: Tensor, segments: Tensor) -> Tensor:
    """Return pixels (N, C, H, W) replaced by their segment's mean colour; segments (N, H, W) are numbered from 0."""
    means = []
    for image, labels in zip(pixels.cpu(), segments.flatten(1).cpu(), strict=True):
        colours = image.flatten(1).double()
        count = int(labels.max()) + 1
        sums = colours.new_zeros(len(colours), count).index_add_(1, labels, colours)
        mean = sums / labels.bincount(minlength=count).clamp(min=1)
        means.append(mean[:, labels].reshape(image.shape))
    return torch.stack(means).to(pixels)


def inpainted(pixels: Tensor, masks: Tensor) -> Tensor:
    """Return pixels (N, C, H, W) whose removed parts are inpainted from the kept ones by OpenCV's Telea method.

    Args:
        pixels: (N, C, H, W) with one or three channels.
        masks: (N, H, W) bool, True where a pixel is kept; if none is, the image becomes its mean colour.

    Raises:
        BadInput: another number of channels, which OpenCV cannot inpaint.
    """
    if pixels.shape[1] not in (1, 3):
        raise BadInput(f"fill: expected 1 or 3 channels for inpaint, got {pixels.shape[1]}; use the fill blur")
    return torch.stack([_inpainted(image, kept) for image, kept in zip(pixels, masks, strict=True)])


def _inpainted(image: Tensor, kept: Tensor) -> Tensor:
    if kept.all():
        return image
    if not kept.any():
        return image.mean((1, 2), keepdim=True).expand_as(image)
    import cv2

    low, span = ends(image[None])
    scaled = ((image - low[0]) / span[0] * 255).round().byte()
    colours = np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())
    repaired = cv2.inpaint(colours, (~kept).byte().cpu().numpy(), _INPAINT_RADIUS, cv2.INPAINT_TELEA)
    hole = torch.from_numpy(repaired.reshape(colours.shape)).permute(2, 0, 1).to(image) / 255
    return torch.where(kept, image, hole * span[0] + low[0])


def ends(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the start and length (N, 1, 1, 1) of each image's range: [0, 1], or its own range if it exceeds [0, 1]."""
    low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
    inside = (low >= 0) & (high <= 1)
    return low.masked_fill(inside, 0), (high - low).clamp(min=1e-12).masked_fill(inside, 1)


def blurred(pixels: Tensor, sigma: float) -> Tensor:
    """Return pixels (N, C, H, W) blurred by a Gaussian of `sigma` pixels, truncated at 4 sigma, edges reflected."""
    if sigma <= 0:
        return pixels
    for axis in (2, 3):
        length = pixels.shape[axis]
        radius = min(max(1, round(4 * sigma)), length - 1)
        if radius < 1:
            continue
        offsets = torch.arange(-radius, radius + 1, dtype=pixels.dtype, device=pixels.device)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
        weight = (kernel / kernel.sum()).reshape(shape).repeat(pixels.shape[1], 1, 1, 1)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        pixels = F.conv2d(F.pad(pixels, padding, mode="reflect"), weight, groups=pixels.shape[1])
    return pixels


def blend(inputs: Tensor, masks: Tensor, filled: Tensor) -> Tensor:
    """Return `m * x + (1 - m) * b` for inputs (N, C, H, W), masks (N, H, W) and fills that broadcast to the inputs.

    The result equals the input exactly where the mask is 1, and the fill where it is 0.
    """
    masks = masks[:, None].to(inputs.dtype)
    if not filled.any():
        return inputs * masks
    return torch.lerp(filled.to(inputs.dtype), inputs, masks)
