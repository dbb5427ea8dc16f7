"""XRAI: regions of the image, taken in the order of the attribution that each adds per pixel.

    a = max_channel mean_baseline integrated gradients          across="sum": the sum over channels
    regions   felzenszwalb at scales 50, 100, 150, 250, 500, 1200 (sigma 0.8, at least 150 pixels), grown by 5 pixels
    repeat    take the region whose new pixels have the highest mean of a; give them that mean
              forget regions that would add fewer than 50 pixels
    the pixels left over get their own mean
    order     "full" as above; "fast" takes the regions in the order of the mean of a over all their pixels

The sum of the map is that of a. Regions are found on the image at 224 x 224 with values brought to [-1, 1]; the 5 and
50 pixels are those of such an image. Each pixel knows the regions that it lies in; one that is taken leaves the running
sums of all of them, so the choice of all regions reads each pair of pixel and region once.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed; a region is an array of pixel numbers, row by row.
Units:  score.
Source: Kapishnikov, Bolukbasi, Viegas & Terry, ICCV 2019, algorithm 1, arXiv:1906.02825; constants of the
    authors' code.
Departs from source: the path is summed at midpoints and begins at black and at white, not at the image's smallest and
    largest value; an image of one colour is one region, flag `one-segment`; lengths follow the image's size.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.integrated_gradients import IntegratedGradients
from xaikit.methods.perturbation.segments import flags_of
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Map = NDArray[np.float64]
Pixels = NDArray[np.intp]

_SIDE, _SCALES = 224, (50, 100, 150, 250, 500, 1200)
_SIGMA, _LEAST_REGION, _GROWTH, _LEAST_GAIN = 0.8, 150, 5, 50


@METHODS.register
@dataclass(frozen=True)
class XRAI(InputMethod):
    """Regions in the order of the attribution that they add per pixel.

    Args:
        steps: points on the path of each baseline.
        baseline: where the paths begin: a fill by name, pixels that broadcast to the images, or several of either.
        across: how the channels of the gradients come together: "max" as the authors have it, or "sum", with which the
            map's sum is that of integrated gradients, the score's difference.
        order: of the regions: "full" by what each still adds, "fast" ranks them once.
    """

    steps: Count = 100
    baseline: Fill | Tensor | tuple[Fill | Tensor, ...] = ("black", "white")
    across: Literal["max", "sum"] = "max"
    order: Literal["full", "fast"] = "full"

    name = "xrai"
    family = "perturbation"
    source = "Kapishnikov et al., ICCV 2019, arXiv:1906.02825"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        _ = self._gradients

    def compute(self, batch: Batch) -> Values:
        """Return each pixel's mean attribution over the region that brought it, (n, H, W)."""
        gradients = self._gradients.compute(batch).values
        base = gradients.amax(1) if self.across == "max" else gradients.sum(1)
        least = max(1, round(_LEAST_GAIN * base[0].numel() / _SIDE**2))
        take = grow if self.order == "full" else grow_in_order
        maps, counts = [], []
        for place, (image, attribution) in enumerate(zip(batch.pixels, base, strict=True)):
            regions = regions_of(image.permute(1, 2, 0).double().cpu().numpy())
            maps.append(take(attribution.double().cpu().numpy(), regions, least))
            counts.append(len(regions))
            if batch.context.progress is not None:
                batch.context.progress(place + 1, len(batch), "segmented images")
        values = torch.from_numpy(np.stack(maps)).to(base)
        one = [1 if count == len(_SCALES) else count for count in counts]
        return Values(values, flags=flags_of(one), diagnostics={"regions": torch.tensor(counts, device="cpu")})

    def cost(self, size: tuple[int, int]) -> Cost:
        """What integrated gradients costs; the regions take no pass."""
        return self._gradients.cost(size)

    @property
    def _gradients(self) -> IntegratedGradients:
        return IntegratedGradients(self.classifier, channels=True, steps=self.steps, baseline=self.baseline)


def grow(base: Map, regions: Sequence[Pixels], least: int = _LEAST_GAIN) -> Map:
    """Return the map (H, W) in which each pixel has the mean of `base` over the pixels that came with it.

    Args:
        base: (H, W) attribution of one image.
        regions: pixel numbers of each; they may overlap.
        least: a region that would add fewer pixels is forgotten.
    """
    flat = base.ravel()
    gains = np.array([flat[region].sum() for region in regions])
    counts = np.array([len(region) for region in regions])
    owners, first = _owners(regions, flat.size)
    values, free = np.empty_like(flat), np.ones(flat.size, dtype=bool)
    while True:
        density = np.where(counts >= least, gains / np.maximum(counts, 1), -np.inf)
        best = int(density.argmax()) if len(regions) else 0
        if not len(regions) or counts[best] < least:
            break
        new = regions[best][free[regions[best]]]
        values[new] = flat[new].mean()
        free[new] = False
        lengths = first[new + 1] - first[new]
        inside = owners[np.repeat(first[new + 1] - lengths.cumsum(), lengths) + np.arange(lengths.sum())]
        counts -= np.bincount(inside, minlength=len(regions))
        gains -= np.bincount(inside, np.repeat(flat[new], lengths), minlength=len(regions))
    values[free] = flat[free].mean() if free.any() else 0.0
    return values.reshape(base.shape)


def grow_in_order(base: Map, regions: Sequence[Pixels], least: int = _LEAST_GAIN) -> Map:
    """Return such a map (H, W) for regions that are ranked once, by the mean of `base` over all their pixels.

    Args:
        base: (H, W) attribution of one image.
        regions: pixel numbers of each; they may overlap.
        least: a region that adds fewer pixels is passed over.
    """
    flat = base.ravel()
    values, free = np.empty_like(flat), np.ones(flat.size, dtype=bool)
    for region in sorted(regions, key=lambda pixels: -flat[pixels].mean()):
        new = region[free[region]]
        if len(new) >= least:
            values[new] = flat[new].mean()
            free[new] = False
    values[free] = flat[free].mean() if free.any() else 0.0
    return values.reshape(base.shape)


def _owners(regions: Sequence[Pixels], pixels: int) -> tuple[Pixels, Pixels]:
    """Return the regions of all pixels, pixel after pixel, and where those of each begin, (pixels + 1,)."""
    sparse: Any = importlib.import_module("scipy.sparse")
    place = np.concatenate([np.empty(0, dtype=np.intp), *regions])
    begins = np.cumsum([0, *(len(region) for region in regions)])
    table = sparse.csr_array((np.ones(len(place), dtype=bool), place, begins), (len(regions), pixels)).tocsc()
    return table.indices, table.indptr


def regions_of(picture: NDArray[np.float64]) -> list[Pixels]:
    """Return the regions of a picture (H, W, C) at all scales, grown and overlapping, as sorted pixel numbers."""
    height, width = picture.shape[:2]
    shown = _prepared(picture)
    rows = (2 * np.arange(height) + 1) * _SIDE // (2 * height)
    columns = (2 * np.arange(width) + 1) * _SIDE // (2 * width)
    radius = round(_GROWTH * min(height, width) / _SIDE)
    partitions = _partitions(shown.tobytes(), shown.shape[2])
    return [region for numbers in partitions for region in _grown(numbers[rows][:, columns], radius)]


def _grown(numbers: NDArray[np.int16], radius: int) -> Iterator[Pixels]:
    """Yield the pixels of each region of `numbers` (H, W) and those within `radius` of it, box by box."""
    height, width = numbers.shape
    areas = np.bincount(numbers.ravel())
    areas = areas[areas > 0]
    begins = areas.cumsum() - areas
    rows, columns = np.divmod(numbers.ravel().argsort(kind="stable"), width)
    tops, bottoms = rows[begins], rows[begins + areas - 1]
    lefts, rights = (pick.reduceat(columns, begins) for pick in (np.minimum, np.maximum))
    boxes = np.stack([tops, lefts, bottoms + 1, rights + 1], 1) + radius * np.array([-1, -1, 1, 1])
    boxes = boxes.clip(0, [height, width, height, width])
    offset = np.arange(-radius, radius + 1)
    disc = (offset[:, None] ** 2 + offset[None, :] ** 2 <= radius**2).astype(np.uint8)
    for begin, area, (top, left, bottom, right) in zip(begins, areas, boxes.tolist(), strict=True):
        box = np.zeros((bottom - top, right - left), dtype=np.uint8)
        box[rows[begin : begin + area] - top, columns[begin : begin + area] - left] = 1
        down, across = cv2.dilate(box, disc).nonzero()
        yield (down + top) * width + (across + left)


def _prepared(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the picture at 224 x 224 with values from -1 to 1."""
    low, high = picture.min(), picture.max()
    brought = (picture - low) / (high - low) * 2 - 1 if high > low else np.zeros_like(picture)
    if brought.shape[:2] == (_SIDE, _SIDE):
        return brought
    transform: Any = importlib.import_module("skimage.transform")
    resized: NDArray[np.float64] = transform.resize(brought, (_SIDE, _SIDE), order=3, mode="constant")
    return resized


@lru_cache(maxsize=16)
def _partitions(content: bytes, channels: int) -> NDArray[np.int16]:
    """Return the regions of a prepared picture, numbered at each scale, (scales, 224, 224).

    They take most of the time and depend on the picture alone, so the last ones are kept for another class. The scales
    run side by side: scikit-image lets go of Python's lock.
    """
    filters: Any = importlib.import_module("scipy.ndimage")
    picture = filters.gaussian_filter(np.frombuffer(content).reshape(_SIDE, _SIDE, channels), (_SIGMA, _SIGMA, 0))
    felzenszwalb: Any = importlib.import_module("skimage.segmentation").felzenszwalb
    with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as threads:
        warnings.simplefilter("ignore", RuntimeWarning)  # pictures with other than three channels
        found = list(
            threads.map(lambda scale: felzenszwalb(picture, scale=scale, sigma=0, min_size=_LEAST_REGION), _SCALES)
        )
    return np.stack(found).astype(np.int16)
