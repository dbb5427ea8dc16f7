"""Segments: groups of pixels that are switched on and off together.

    slic          about `count` compact regions of similar colour, deterministic
    grid          about `count` equal rectangles
    quickshift    modes of the colour density; chooses the number of segments; fixed seed
    felzenszwalb  regions by a minimum spanning tree; chooses the number of segments

Each image is segmented separately, in pixels, not in the network's coordinates.

Shapes: pixels (N, C, H, W) in [0, 1]; segments (N, H, W) int64, numbered 0 to M - 1 without gaps in each image.
Source: scikit-image; Achanta et al., TPAMI 2012 (slic), Vedaldi & Soatto, ECCV 2008 (quickshift), Felzenszwalb &
    Huttenlocher, IJCV 2004.
"""

import importlib
import math
import warnings
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.cells import cell_numbers
from xaikit.images.fills import ends

Segmentation = Literal["slic", "quickshift", "felzenszwalb", "grid"]

_SEED = 0  # seed of quickshift's tie-breaking noise; not the run's seed, so that all methods use the same segments


def check_segmentation(segmentation: Segmentation | Tensor) -> None:
    """Check that a tensor holds integer segment numbers (H, W).

    Raises:
        BadInput: the tensor has another shape or type.
    """
    if not isinstance(segmentation, Tensor):
        return
    if segmentation.ndim != 2 or segmentation.is_floating_point() or segmentation.dtype == torch.bool:
        got = f"{tuple(segmentation.shape)} {segmentation.dtype}"
        raise BadInput(f"segmentation: expected segment numbers (H, W) as integers, got {got}")


def segment(pixels: Tensor, segmentation: Segmentation | Tensor = "slic", count: int = 64) -> Tensor:
    """Return the segment number of each pixel.

    Args:
        pixels: (N, C, H, W) images in [0, 1].
        segmentation: one of the names above, or segment numbers (H, W) for all images.
        count: approximate number of segments; quickshift and felzenszwalb ignore it.

    Returns:
        (N, H, W) int64 on the device of the pixels.

    Raises:
        BadInput: segment numbers are not integers (H, W) of the images' size.
    """
    check_segmentation(segmentation)
    size = (pixels.shape[-2], pixels.shape[-1])
    if isinstance(segmentation, Tensor):
        if tuple(segmentation.shape) != size:
            raise BadInput(f"segmentation: expected segment numbers {size}, got {tuple(segmentation.shape)}")
        numbers: Tensor = torch.unique(segmentation, return_inverse=True)[1]
        return numbers.reshape(size).to(pixels.device).expand(len(pixels), *size)
    if segmentation == "grid" or math.prod(size) == 1:
        return _grid(size, count).to(pixels.device).expand(len(pixels), *size)
    regions = [torch.from_numpy(_regions(picture, segmentation, count)) for picture in _pictures(pixels)]
    return torch.stack(regions).to(pixels.device)


def _grid(size: tuple[int, int], count: int) -> Tensor:
    """Return the segment numbers (H, W) of about `count` equal rectangles, as square as possible."""
    down = min(size[0], count, max(1, round(math.sqrt(count * size[0] / size[1]))))
    across = min(size[1], max(1, round(count / down)))
    return cell_numbers((down, across), size)


def _pictures(pixels: Tensor) -> list[NDArray[Any]]:
    """Return the images in scikit-image's format: (H, W, C) float64 in [0, 1], grey images with three channels."""
    images = pixels.detach().double().cpu()
    low, span = ends(images)
    images = (images - low) / span
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]


def _regions(picture: NDArray[Any], segmentation: str, count: int) -> NDArray[Any]:
    regions: Any = importlib.import_module("skimage.segmentation")
    height, width, channels = picture.shape
    coloured = channels == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (UserWarning, RuntimeWarning))
        if segmentation == "slic":
            count = min(count, height * width)
            labels = regions.slic(picture, count, sigma=1, start_label=0, convert2lab=coloured)
        elif segmentation == "quickshift":
            options = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}
            labels = regions.quickshift(picture, **options, convert2lab=coloured, rng=_SEED)
        else:
            labels = regions.felzenszwalb(picture, scale=100, sigma=0.8, min_size=max(1, height * width // 256))
    numbers: NDArray[Any] = np.unique(labels, return_inverse=True)[1].reshape(height, width)
    return numbers.astype(np.int64)
