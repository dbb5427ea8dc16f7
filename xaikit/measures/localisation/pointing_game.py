"""Pointing game: whether the map's highest point lies on the evidence.

    value = |argmax a  inside  dilate(G)| / |argmax a|

A map whose maximum is shared by several pixels scores the share of them that hit: the chance of one drawn from them.

Shapes: masks (N, H, W) bool; value (N,) in [0, 1]; NaN where the mask is empty.
Source: Zhang et al. (Excitation Backprop), ECCV 2016, arXiv:1608.00507.
Departs from source: no tolerance for exact masks (the paper has 15 pixels, round boxes); ties as an expected value; the
    mean over classes is left to the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject

_SIDE = 224


@MEASURES.register
@dataclass(frozen=True)
class PointingGame(Measure):
    """Whether the highest point of the map lies on the evidence.

    Args:
        tolerance: distance from the evidence that still counts, in pixels of an image whose short side is 224.
    """

    tolerance: Annotated[float, Ge(0), Lt(_SIDE)] = 0.0

    name = "pointing-game"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Zhang et al., ECCV 2016, arXiv:1608.00507"
    needs = frozenset({"maps", "masks"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the share of highest points on the evidence, (N,)."""
        evidence = subject.evidence
        highest = subject.raw == subject.raw.amax((1, 2), keepdim=True)
        near = _grown(evidence, self.tolerance * min(subject.size) / _SIDE)
        hits = (highest & near).sum((1, 2)) / highest.sum((1, 2)).double()
        return hits.masked_fill(~evidence.any(2).any(1) | ~subject.finite, torch.nan)


def _grown(masks: Tensor, radius: float) -> Tensor:
    """Return masks with all pixels no further than `radius` from them."""
    reach = int(radius)
    offsets = torch.arange(-reach, reach + 1, device="cpu")
    disc = (offsets[:, None].square() + offsets.square() <= radius**2).float()
    return F.conv2d(masks[:, None].float(), disc[None, None], padding=reach)[:, 0] > 0.5
