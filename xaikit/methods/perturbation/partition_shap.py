"""Partition SHAP: Owen values of a hierarchy of rectangles, refined where the unexplained score is largest.

    image -> two halves, along the longer side -> quarters -> ... -> pixels
    phi(half) = mean over the two contexts of v(context + half) - v(context)         recursively, v(S) = score of x in S
    map(u) = phi of the smallest region that contains u, divided evenly among its pixels

In words: The image is halved again and again, and the halves are shown and hidden to share out the score between them;
where much of the score is still unexplained, the halving goes on. The map is made of rectangles of different sizes,
signed and specific to the class, and adds up to the score minus that of the empty image. Rectangles do not follow
objects, and with few forwards, 500 by default, large blocks remain. The fill of hidden parts matters as in any such
method.

shap's PartitionExplainer does the recursion on shap's own hierarchy for images; this file supplies the scores. The
values sum to v(image) - v(empty).

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed.
Units:  score (or probability) per pixel.
Source: Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874, and the package shap; Owen, in Essays in Mathematical Economics
    and Game Theory, 1977.
Departs from source: all channels of a pixel are masked together; missing pixels become the mean colour, while shap's
    examples inpaint them (fill "inpaint").
"""

import importlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from xaikit.foundation.identity import stream_seed
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.perturbation.scorer import PlainFill, Score, Scorer, rounding
from xaikit.run.batch import Batch
from xaikit.run.context import estimate
from xaikit.run.cost import Cost

_ENDS = 2  # evaluations of the empty and the full image
_BATCH_SIZE = 10  # masks per round of shap's recursion, shap's default; the values depend on it


@METHODS.register
@dataclass(frozen=True)
class PartitionShap(InputMethod):
    """Owen values of rectangles that are halved where the unexplained score is largest.

    Args:
        samples: number of masked images to score, including the empty and the full image.
        fill: content of missing pixels: the name of a fill, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" is that of the class.
    """

    samples: Annotated[int, Ge(4)] = 500
    fill: PlainFill | Tensor = "mean"
    score: Score = "logit"

    name = "partition-shap"
    family = "perturbation"
    source = "Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874; shap.PartitionExplainer"

    def compute(self, batch: Batch) -> Values:
        """Return each pixel's Owen value, (n, H, W)."""
        scorer = Scorer(batch, self.fill, self.score)
        ends = torch.stack([torch.zeros(batch.size, device="cpu"), torch.ones(batch.size, device="cpu")])
        maps, gaps = [], []
        for row in range(len(batch)):
            empty, full = scorer.of_image(row, ends)
            values = self._values(scorer, row) if math.prod(batch.size) > 1 else (full - empty).expand(1, 1)
            maps.append(values.to(scorer.clean))
            gaps.append(maps[-1].sum() - (full - empty))
        return Values(torch.stack(maps), completeness=torch.stack(gaps))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the clean image, one for each end, and one per sample."""
        return Cost(1 + _ENDS + self.samples, 0)

    def _values(self, scorer: Scorer, row: int) -> Tensor:
        """Return shap's values (H, W) of one image; zeros if the scores differ by rounding alone."""
        batch, done, begin = scorer.batch, 0, time.perf_counter()
        seen: list[Tensor] = []
        progress = batch.context.progress

        def scores(masks: NDArray[Any]) -> NDArray[Any]:
            nonlocal done
            kept = torch.from_numpy(masks).reshape(-1, *batch.size)
            seen.append(scorer.of_image(row, kept))
            result: NDArray[Any] = seen[-1].cpu().double().numpy()
            if progress is not None:
                note = "" if done else estimate(begin, len(result), self.samples)
                progress(min(done + len(result), self.samples), self.samples, f"forwards{note}")
            done += len(result)
            return result

        stream = stream_seed(batch.context.seed, batch.hashes[row], "partition-shap")
        values = torch.from_numpy(_owen_values(scores, batch.size, self.samples, stream % 2**32))
        scored = torch.cat(seen)
        return torch.zeros_like(values) if scored.amax() - scored.amin() <= rounding(scored) else values


def _owen_values(
    scores: Callable[[NDArray[Any]], NDArray[Any]], size: tuple[int, int], samples: int, seed: int
) -> NDArray[Any]:
    """Return shap's Owen values (H, W) of `scores`, a function from masks (k, H W) to scores (k,)."""
    np.random.seed(seed)  # noqa: NPY002 - shap breaks ties with the global state; borrowing the network restores it
    explainer = _shap().PartitionExplainer(scores, _Pixels(size))
    result = explainer(np.zeros((1, math.prod(size))), max_evals=samples, batch_size=_BATCH_SIZE, silent=True)
    return np.asarray(result.values, dtype=np.float64).reshape(size)


def _shap() -> ModuleType:
    """Import shap without the warnings of its colour maps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("shap")


class _Pixels:
    """A masker for shap that returns each mask unchanged, so that shap passes masks instead of images to `scores`."""

    immutable_outputs = True

    def __init__(self, size: tuple[int, int]) -> None:
        self.shape = (1, math.prod(size))
        self.clustering = _hierarchy(size)

    def __call__(self, mask: NDArray[Any], _: NDArray[Any]) -> tuple[NDArray[Any]]:
        return (mask[None],)


@lru_cache(maxsize=4)
def _hierarchy(size: tuple[int, int]) -> NDArray[Any]:
    """Return shap's hierarchy of rectangles over the pixels of an image."""
    _shap()
    maskers = importlib.import_module("shap.maskers")  # no attribute of shap where its first import failed half way
    return np.asarray(maskers.Image(0, shape=(*size, 1)).clustering)
