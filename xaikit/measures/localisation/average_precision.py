"""Average precision: how well the map ranks the pixels of the evidence above the others.

    value = 1 / |G|  sum_{p in G}  |{q in G: a_q >= a_p}| / |{q: a_q >= a_p}|        without ties

A group of T equal values with K of the evidence, b pixels above it and g of the evidence among them, adds the expected
value over all orders of the group:

    sum_{i = 1..T}  K / T  (g + 1 + (i - 1)(K - 1) / (T - 1)) / (b + i)

It asks for no threshold and, unlike the area under the ROC curve, is not carried by a large background.

Shapes: masks (N, H, W) bool; value (N,) in (0, 1]; NaN where the mask is empty. A constant map scores about |G| / P.
Source: the measure of information retrieval.
Departs from source: ties as an expected value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import tie_bounds


@MEASURES.register
@dataclass(frozen=True)
class AveragePrecision(Measure):
    """Average precision of the map as a ranking of the pixels, with the evidence as what is looked for."""

    name = "average-precision"
    direction = "higher"
    range = (0.0, 1.0)
    source = "information retrieval's; ties as expected values"
    needs = frozenset({"maps", "masks"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the average precision, (N,)."""
        ordered, order = subject.raw.flatten(1).sort(1, descending=True)
        inside = subject.evidence.flatten(1).gather(1, order)
        size = inside.sum(1)
        found = torch.cat([torch.zeros_like(size)[:, None], inside.cumsum(1)], 1)
        first, last = tie_bounds(ordered)
        before = found.gather(1, first)
        group, hits = (last - first + 1).double(), (found.gather(1, last + 1) - before).double()
        place = torch.arange(inside.shape[1], dtype=torch.float64, device="cpu")
        others = (place - first) * (hits - 1) / (group - 1).clamp(min=1)
        gains = hits / group * (before + 1 + others) / (place + 1)
        return (gains.sum(1) / size).clamp(max=1).masked_fill((size == 0) | ~subject.finite, torch.nan)
