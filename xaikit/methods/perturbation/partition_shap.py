"""Partition SHAP: Owen values of a hierarchy of rectangles, split where most is left to explain.

    image -> two halves, along the longer side -> quarters -> ... -> pixels
    phi(half) = mean over the two contexts of v(context + half) - v(context)         recursively, v(S) = score of x in S
    map(u) = phi of the smallest region that holds u, shared evenly by its pixels

The recursion is shap's PartitionExplainer on shap's own hierarchy for images; this file feeds it with the one scorer.
The values sum to v(image) - v(nothing).

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), signed.
Units:  score (or probability) a pixel.
Source: Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874, and the package shap; Owen, in Essays in Mathematical Economics
    and Game Theory, 1977.
Departs from source: all channels of a pixel come and go together; missing pixels become the mean colour, where shap's
    examples inpaint them (fill "inpaint").
"""

from __future__ import annotations

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
from xaikit.methods.perturbation.scorer import PlainFill, Score, Scorer
from xaikit.run.batch import Batch
from xaikit.run.context import estimate
from xaikit.run.cost import Cost

_ENDS = 2  # evaluations of the empty and of the full image
_AT_ONCE = 10  # masks between two looks at what is left to explain, as shap has it: the answer depends on it


@METHODS.register
@dataclass(frozen=True)
class PartitionShap(InputMethod):
    """Owen values of rectangles that are halved where most is left to explain.

    Args:
        samples: masked images that are scored, the empty and the full one among them.
        fill: what stands for missing pixels: a fill by name, or pixels that broadcast to the images.
        score: "logit" is the explained score, "probability" that of the class.
    """

    samples: Annotated[int, Ge(4)] = 500
    fill: PlainFill | Tensor = "mean"
    score: Score = "logit"

    name = "partition-shap"
    family = "perturbation"
    source = "Lundberg & Lee, NeurIPS 2017, arXiv:1705.07874; shap.PartitionExplainer"

    def compute(self, batch: Batch) -> Values:
        """Return each pixel's share, (n, H, W)."""
        scorer = Scorer(batch, self.fill, self.score)
        ends = torch.stack([torch.zeros(batch.size, device="cpu"), torch.ones(batch.size, device="cpu")])
        found, gaps = [], []
        for row in range(len(batch)):
            empty, full = scorer.of_image(row, ends)
            shares = self._shares(scorer, row) if math.prod(batch.size) > 1 else (full - empty).expand(1, 1)
            found.append(shares.to(scorer.clean))
            gaps.append(found[-1].sum() - (full - empty))
        return Values(torch.stack(found), completeness=torch.stack(gaps))

    def cost(self, size: tuple[int, int]) -> Cost:
        """The clean image, both ends for the gap, and one forward a sample."""
        return Cost(1 + _ENDS + self.samples, 0)

    def _shares(self, scorer: Scorer, row: int) -> Tensor:
        """Return shap's values (H, W) of one image."""
        batch, done, begin = scorer.batch, 0, time.perf_counter()
        progress = batch.context.progress

        def scores(masks: NDArray[Any]) -> NDArray[Any]:
            nonlocal done
            kept = torch.from_numpy(masks).reshape(-1, *batch.size)
            found: NDArray[Any] = scorer.of_image(row, kept).cpu().double().numpy()
            if progress is not None:
                note = "" if done else estimate(begin, len(found), self.samples)
                progress(min(done + len(found), self.samples), self.samples, f"forwards{note}")
            done += len(found)
            return found

        stream = stream_seed(batch.context.seed, batch.hashes[row], "partition-shap")
        return torch.from_numpy(_owen_values(scores, batch.size, self.samples, stream % 2**32))


def _owen_values(
    scores: Callable[[NDArray[Any]], NDArray[Any]], size: tuple[int, int], samples: int, seed: int
) -> NDArray[Any]:
    """Return shap's Owen values (H, W) of the game `scores`, from masks (k, H W) to (k,)."""
    np.random.seed(seed)  # noqa: NPY002 - theirs breaks ties by it; the borrowed network's owner gets it back
    explainer = _shap().PartitionExplainer(scores, _Pixels(size))
    found = explainer(np.zeros((1, math.prod(size))), max_evals=samples, batch_size=_AT_ONCE, silent=True)
    return np.asarray(found.values, dtype=np.float64).reshape(size)


def _shap() -> ModuleType:
    """Import shap, whose plots warn of their own colour maps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("shap")


class _Pixels:
    """What shap calls a masker: gives each mask on as it is, so that the game is played on masks alone."""

    immutable_outputs = True

    def __init__(self, size: tuple[int, int]) -> None:
        self.shape = (1, math.prod(size))
        self.clustering = _hierarchy(size)

    def __call__(self, mask: NDArray[Any], _: NDArray[Any]) -> tuple[NDArray[Any]]:
        return (mask[None],)


@lru_cache(maxsize=4)
def _hierarchy(size: tuple[int, int]) -> NDArray[Any]:
    """Return shap's own hierarchy of rectangles over the pixels of one image."""
    return np.asarray(_shap().maskers.Image(0, shape=(*size, 1)).clustering)
