"""Shapes: checks of image and map tensors, and the resizing and scaling of maps.

    upsample    bilinear, align_corners=False; the only resizing of maps in xaikit
    unit        rho(m) = (m - min) / (max - min), per image

Shapes: images (N, C, H, W); maps (N, h, w).
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput

OVERSHOOT = 0.25  # how far pixels may lie outside [0, 1], as after resampling
_ROUNDING_STEPS = 8  # largest range of a constant map, in rounding steps of its largest value: resizing adds a few


def check_images(images: Tensor, channels: int, name: str = "inputs") -> None:
    """Check that images are a floating-point tensor (N, C, H, W) with the network's channels.

    Raises:
        BadInput: wrong type, rank, channel count or size.
    """
    if not isinstance(images, Tensor):
        raise BadInput(
            f"{name}: expected a tensor, got {type(images).__name__}; read files with classifier.read(paths)"
        )
    shape = tuple(images.shape)
    if images.ndim == 3:
        raise BadInput(f"{name}: expected (N, {channels}, H, W), got {shape}; add a batch axis with x[None]")
    if images.ndim != 4:
        raise BadInput(f"{name}: expected (N, {channels}, H, W), got {shape}; give one image as x[None]")
    if shape[1] != channels:
        remedy = "move the colour axis with x.permute(0, 3, 1, 2)" if shape[3] == channels else "match the network"
        raise BadInput(f"{name}: expected {channels} channels in (N, C, H, W), got {shape}; {remedy}")
    if min(shape[2:]) < 1:
        raise BadInput(f"{name}: expected images of at least 1x1, got {shape}; drop the empty ones")
    if images.is_meta or images.layout != torch.strided:
        got = "the meta device" if images.is_meta else str(images.layout)
        raise BadInput(f"{name}: expected pixels in memory, got {got}; give an ordinary tensor")
    if not images.is_floating_point():
        raise BadInput(f"{name}: expected floats in [0, 1], got {images.dtype}; divide uint8 by 255")


def check_range(images: Tensor, *, bounded: bool, name: str = "inputs") -> None:
    """Check that pixels are finite and, if `bounded`, not far outside [0, 1].

    Raises:
        BadInput: pixels that are not finite or out of range.
    """
    if not images.numel():
        return
    low, high = (float(end) for end in images.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadInput(f"{name}: expected finite pixels, got NaN or infinity; check how they were read")
    if bounded and (low < -OVERSHOOT or high > 1 + OVERSHOOT):
        raise BadInput(
            f"{name}: expected pixels in [0, 1], got {low:.3g} to {high:.3g}; "
            "give them before normalisation, which the classifier applies itself"
        )


def from_numpy(values: Any) -> Any:
    """Return a NumPy array as a tensor, anything else unchanged."""
    return torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values


def check_maps(maps: Tensor, images: Tensor, name: str = "maps") -> None:
    """Check that maps have the shape (N, H, W) of the images (N, C, H, W).

    Raises:
        BadInput: wrong type or shape.
    """
    expected = (images.shape[0], *images.shape[2:])
    if not isinstance(maps, Tensor) or tuple(maps.shape) != expected:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise BadInput(f"{name}: expected {expected}, got {got}; attribution.heatmap() has that shape")


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one value per image so that it broadcasts over `like` (N, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, h, w) or (N, R, h, w) resized to `size` = (H, W), bilinear with `align_corners=False`."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    stacked = maps[:, None] if maps.ndim == 3 else maps
    resized = F.interpolate(stacked, size=size, mode="bilinear", align_corners=False)
    return resized[:, 0] if maps.ndim == 3 else resized


def unit(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale each map to [0, 1] by its minimum and maximum.

    Args:
        maps: (..., h, w); each trailing (h, w) is one map.

    Returns:
        The scaled maps; a bool (...), True for constant maps; and a bool (...), True for invalid maps, whose values or
        range are not finite. A map is constant if its range is rounding of its values, whatever their unit; it becomes
        ones if its value is > 0, else zeros. An invalid map becomes zeros.
    """
    low = maps.amin(dim=(-2, -1), keepdim=True)
    high = maps.amax(dim=(-2, -1), keepdim=True)
    span = high - low
    invalid = ~span.isfinite()
    rounding = _ROUNDING_STEPS * torch.finfo(maps.dtype).eps * torch.maximum(high.abs(), low.abs())
    flat = ~invalid & (span <= rounding)
    scaled = (maps - low) / torch.where(flat, torch.ones_like(span), span)
    scaled = torch.where(flat, (low > 0).to(maps.dtype), scaled).masked_fill(invalid, 0)
    return scaled, flat[..., 0, 0], invalid[..., 0, 0]
