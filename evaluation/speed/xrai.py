"""XRAI beyond the gradients: the regions of an image and their order, against the authors' package.

Both call scikit-image's segmentation six times, which is shown by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np
import torch
from saliency.core.xrai import XRAI
from skimage.segmentation import felzenszwalb

from evaluation.speed.contest import OURS, Claim, Contest
from xaikit.images.fills import blurred
from xaikit.methods.perturbation.xrai import grow, regions_of

__all__ = ["contests"]

IMAGES, SIDE = 4, 224
SCALES = (50, 100, 150, 250, 500, 1200)


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    stream = np.random.default_rng(0)
    gradients = [blurred(torch.from_numpy(stream.normal(size=(1, 3, SIDE, SIDE))), 3.0)[0] for _ in range(IMAGES)]
    peer, sets = XRAI(), [_pictures(seed) for seed in range(5)]
    fresh = cycle(sets)  # xaikit remembers the segments of the last 16 images

    def ours() -> None:
        for picture, base in zip(next(fresh), gradients, strict=True):
            grow(base.amax(0).numpy(), regions_of(picture))

    def by_peer() -> None:
        for picture, base in zip(sets[0], gradients, strict=True):
            peer.GetMask(picture, None, base_attribution=base.permute(1, 2, 0).numpy())

    def segmentation() -> None:
        for picture in sets[0]:
            for scale in SCALES:
                felzenszwalb(picture, scale=scale, sigma=0.8, min_size=150)

    yield Contest(
        "xrai beyond the gradients",
        f"{IMAGES} images at {SIDE}x{SIDE}: segmentation at six scales, growth of the regions, their order",
        {OURS: ours, "saliency": by_peer, "scikit-image's segmentation": segmentation},
        [Claim(OURS, "saliency", 1.0)],
    )


def _pictures(seed: int) -> list[np.ndarray]:
    """Return images of smooth random colours with edges, so that segments have all sizes."""
    drawn = torch.rand(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    coarse, fine = blurred(drawn, 12.0), blurred(drawn.flip(0), 2.0)
    mixed = torch.where(coarse > coarse.mean(), 0.5 + 4 * (coarse - 0.5), fine)
    return [image.permute(1, 2, 0).numpy() for image in mixed.clamp(0, 1)]
