"""XRAI beyond the gradients: regions of a photograph-like image and their order, against the authors' package.

Both call scikit-image's segmentation six times, which neither makes faster; the second contest leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from saliency.core import xrai as theirs

from tests.speed.contest import Claim, Contest
from xaikit.images.fills import blurred
from xaikit.methods.perturbation import xrai as ours

__all__ = ["contests"]

IMAGES, SIDE = 4, 224


def contests() -> Iterator[Contest]:
    """Yield the contests."""
    pictures = _pictures()
    stream = np.random.default_rng(0)
    base = [blurred(torch.from_numpy(stream.normal(size=(1, 3, SIDE, SIDE))), 3.0)[0].numpy() for _ in pictures]
    peer = theirs.XRAI()

    def grown() -> None:
        ours._partitions.cache_clear()
        for picture, gradients in zip(pictures, base, strict=True):
            ours.grow(gradients.max(0), ours.regions_of(picture))

    def by_peer() -> None:
        for picture, gradients in zip(pictures, base, strict=True):
            peer.GetMask(picture, None, base_attribution=gradients.transpose(1, 2, 0))

    def segmented() -> None:
        ours._partitions.cache_clear()
        for picture in pictures:
            ours._partitions(ours._prepared(picture).tobytes(), 3)

    yield Contest(
        "xrai beyond the gradients",
        f"{IMAGES} images at {SIDE}x{SIDE}: segmentation at six scales, growth of the regions, their order",
        {"xaikit": grown, "saliency": by_peer, "scikit-image's segmentation alone": segmented},
        [Claim("xaikit", "saliency", at_least=10)],
        rounds=3,
    )

    partitions = [ours._partitions(ours._prepared(picture).tobytes(), 3) for picture in pictures]

    def order() -> None:
        for gradients, numbers in zip(base, partitions, strict=True):
            ours.grow(gradients.max(0), [region for one in numbers for region in ours._grown(one, 5)])

    def order_by_peer() -> None:
        disc = theirs.disk(5)
        for picture, gradients, numbers in zip(pictures, base, partitions, strict=True):
            masks = [theirs.dilation(mask, footprint=disc) for mask in theirs._unpack_segs_to_masks(list(numbers))]
            peer.GetMask(picture, None, base_attribution=gradients.transpose(1, 2, 0), segments=masks)

    yield Contest(
        "xrai beyond gradients and segmentation",
        f"{IMAGES} images at {SIDE}x{SIDE}: growth of the regions and their order",
        {"xaikit": order, "saliency": order_by_peer},
        [Claim("xaikit", "saliency", at_least=10)],
        rounds=3,
    )


def _pictures() -> list[np.ndarray]:
    """Return images of smooth random colours with edges, so that segments have all sizes."""
    drawn = torch.rand(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coarse = blurred(drawn, 12.0)
    fine = blurred(drawn.flip(0), 2.0)
    mixed = torch.where(coarse > coarse.mean(), 0.5 + 4 * (coarse - 0.5), fine)
    return [image.permute(1, 2, 0).numpy() for image in mixed.clamp(0, 1)]
