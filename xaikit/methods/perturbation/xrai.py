"""XRAI: integrated gradients averaged over regions, which are added in order of their attribution per new pixel.

    a = max_channel mean_baseline integrated gradients          across="sum": the sum over channels
    regions   felzenszwalb at scales 50, 100, 150, 250, 500, 1200 (sigma 0.8, at least 150 pixels), dilated by 5 pixels
    repeat    add the region whose new pixels have the highest mean of a; they get that mean
              drop regions that would add fewer than 50 pixels
    the remaining pixels get their own mean
    order     "full" as above; "fast" adds the regions in order of the mean of a over all their pixels

In words: Integrated gradients from a black and a white baseline are averaged over image regions of many sizes, and the
regions are added in the order of their mean. The map is made of regions that follow the edges of the image, signed and
specific to the class. It reads more easily than a pixel map, but it cannot be finer than its regions, and a region's
outline comes from the image and not from the network. It costs 200 backwards by default.

The map sums to the sum of a; the flag `incomplete` is that of the integrated gradients. The image is segmented at
224 x 224 with values scaled to [-1, 1]; the 5 and 50 pixels refer to that size. When a pixel is added, it is subtracted
from the running sums of all regions that contain it, so the whole selection reads each (pixel, region) pair once.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed; a region is an array of row-major pixel numbers.
Units:  score.
Source: Kapishnikov, Bolukbasi, Viegas & Terry, ICCV 2019, algorithm 1, arXiv:1906.02825; constants of the
    authors' code.
Departs from source: the paths use midpoints and start at black and at white, not at the image's smallest and largest
    value; an image of one colour is one region, flag `one-segment`; lengths scale with the image size.
"""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
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
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Map = NDArray[np.float64]
Pixels = NDArray[np.intp]

_SIDE, _SCALES = 224, (50, 100, 150, 250, 500, 1200)
_SIGMA, _LEAST_REGION, _GROWTH, _LEAST_GAIN = 0.8, 150, 5, 50


@METHODS.register
@dataclass(frozen=True)
class XRAI(InputMethod):
    """Mean attribution of regions, which are added in order of their attribution per new pixel.

    Args:
        steps: number of points on the path from each baseline.
        baseline: start of the path: the name of a fill, pixels that broadcast to the images, or a tuple of these.
        across: reduction of the channels: "max" as in the source, or "sum", for which the map sums to the difference
            of the scores, as integrated gradients do.
        order: "full" ranks the regions by the pixels that they still add, "fast" ranks them once.
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
        """Check the parameters of integrated gradients."""
        _ = self._gradients

    def compute(self, batch: Batch) -> Values:
        """Return the mean attribution over the pixels added together with each pixel, (n, H, W)."""
        integrated = self._gradients.compute(batch)
        base = integrated.values.amax(1) if self.across == "max" else integrated.values.sum(1)
        least = max(1, round(_LEAST_GAIN * base[0].numel() / _SIDE**2))
        add_regions = grow if self.order == "full" else grow_in_order
        maps, counts = [], []
        for index, (image, attribution) in enumerate(zip(batch.pixels, base, strict=True)):
            regions = regions_of(image.permute(1, 2, 0).double().cpu().numpy())
            maps.append(add_regions(attribution.double().cpu().numpy(), regions, least))
            counts.append(len(regions))
            if batch.context.progress is not None:
                batch.context.progress(index + 1, len(batch), "segmented images")
        values = torch.from_numpy(np.stack(maps)).to(base)
        flags = [
            names | ({"one-segment"} if count == len(_SCALES) else set())  # one region per scale
            for names, count in zip(integrated.flags, counts, strict=True)
        ]
        return Values(
            values,
            completeness=integrated.completeness if self.across == "sum" else None,
            flags=flags,
            diagnostics={"regions": torch.tensor(counts, device="cpu")},
        )

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return the cost of integrated gradients; the regions need no pass."""
        return self._gradients.cost(size)

    @property
    def _gradients(self) -> IntegratedGradients:
        return IntegratedGradients(self.classifier, channels=True, steps=self.steps, baseline=self.baseline)


def grow(base: Map, regions: Sequence[Pixels], least: int = _LEAST_GAIN) -> Map:
    """Return the map (H, W) in which each pixel has the mean of `base` over the pixels added together with it.

    Args:
        base: (H, W) attribution of one image.
        regions: pixel numbers of each region; regions may overlap.
        least: regions that would add fewer pixels are dropped.
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
    """Return the map (H, W) of `grow` for regions ranked once, by the mean of `base` over all their pixels.

    Args:
        base: (H, W) attribution of one image.
        regions: pixel numbers of each region; regions may overlap.
        least: regions that add fewer pixels are skipped.
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
    """Return the regions that contain each pixel, sorted by pixel, and the start of each pixel's part (pixels + 1,)."""
    sparse: Any = importlib.import_module("scipy.sparse")
    members = np.concatenate([np.empty(0, dtype=np.intp), *regions])
    begins = np.cumsum([0, *(len(region) for region in regions)])
    table = sparse.csr_array((np.ones(len(members), dtype=bool), members, begins), (len(regions), pixels)).tocsc()
    return table.indices, table.indptr


def regions_of(picture: NDArray[np.float64]) -> list[Pixels]:
    """Return the dilated, overlapping regions of a picture (H, W, C) at all scales, as sorted pixel numbers."""
    height, width = picture.shape[:2]
    prepared = _prepared(picture)
    rows = (2 * np.arange(height) + 1) * _SIDE // (2 * height)
    columns = (2 * np.arange(width) + 1) * _SIDE // (2 * width)
    radius = round(_GROWTH * min(height, width) / _SIDE)
    partitions = _partitions(prepared.tobytes(), prepared.shape[2])
    return [region for numbers in partitions for region in _dilated(numbers[rows][:, columns], radius)]


def _dilated(numbers: NDArray[np.int16], radius: int) -> Iterator[Pixels]:
    """Yield the pixels within `radius` of each region of `numbers` (H, W), computed in the region's bounding box."""
    height, width = numbers.shape
    areas = np.bincount(numbers.ravel())
    areas = areas[areas > 0]
    begins = areas.cumsum() - areas
    rows, columns = np.divmod(numbers.ravel().argsort(kind="stable"), width)
    tops, bottoms = rows[begins], rows[begins + areas - 1]
    lefts, rights = (extreme.reduceat(columns, begins) for extreme in (np.minimum, np.maximum))
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
    scaled = (picture - low) / (high - low) * 2 - 1 if high > low else np.zeros_like(picture)
    if scaled.shape[:2] == (_SIDE, _SIDE):
        return scaled
    transform: Any = importlib.import_module("skimage.transform")
    resized: NDArray[np.float64] = transform.resize(scaled, (_SIDE, _SIDE), order=3, mode="constant")
    return resized


@lru_cache(maxsize=16)
def _partitions(content: bytes, channels: int) -> NDArray[np.int16]:
    """Return the region numbers of a prepared picture at each scale, (scales, 224, 224).

    Segmentation takes most of the time and depends only on the picture, so results are cached for other classes. The
    scales run in parallel, because scikit-image releases the GIL.
    """
    filters: Any = importlib.import_module("scipy.ndimage")
    picture = filters.gaussian_filter(np.frombuffer(content).reshape(_SIDE, _SIDE, channels), (_SIGMA, _SIGMA, 0))
    felzenszwalb: Any = importlib.import_module("skimage.segmentation").felzenszwalb
    with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as threads:
        warnings.simplefilter("ignore", RuntimeWarning)  # pictures with other than three channels
        segment = partial(felzenszwalb, picture, sigma=0, min_size=_LEAST_REGION)
        return np.stack(list(threads.map(segment, _SCALES))).astype(np.int16)
