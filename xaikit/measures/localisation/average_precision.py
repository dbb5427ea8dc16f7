"""Average precision: how well the map ranks the evidence pixels above the others.

    value = 1 / |G|  sum_{p in G}  |{q in G: a_q >= a_p}| / |{q: a_q >= a_p}|        without ties

In words: The pixels are ranked by the map, and the measure tells how purely the evidence pixels are at the top: one if
all of them come before all others. A map without information gets about the evidence's share of the image, so report
that share. No threshold is needed, and only the order counts. It needs masks. The trap: masks drawn by people say where
the object is, not what the network used; only evidence known by construction tests faithfulness.

A group of T equal values, K of them on the evidence, with b pixels above it, g of them on the evidence, contributes the
expected value over all orders of the group:

    sum_{i = 1..T}  K / T  (g + 1 + (i - 1)(K - 1) / (T - 1)) / (b + i)

The measure needs no threshold and, unlike the area under the ROC curve, is not dominated by a large background.

Shapes: masks (N, H, W) bool; value (N,) in (0, 1]; NaN where the mask is empty. A constant map scores about |G| / P.
Source: the standard measure of information retrieval.
Departs from source: ties count with their expected value.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import tie_bounds


@MEASURES.register
@dataclass(frozen=True)
class AveragePrecision(Measure):
    """Average precision of the map as a ranking of the pixels, with the evidence pixels as positives."""

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
        hits = torch.cat([torch.zeros_like(size)[:, None], inside.cumsum(1)], 1)
        first, last = tie_bounds(ordered)
        hits_above = hits.gather(1, first)
        group, group_hits = (last - first + 1).double(), (hits.gather(1, last + 1) - hits_above).double()
        position = torch.arange(inside.shape[1], dtype=torch.float64, device="cpu")
        others = (position - first) * (group_hits - 1) / (group - 1).clamp(min=1)
        precision = group_hits / group * (hits_above + 1 + others) / (position + 1)
        return (precision.sum(1) / size).clamp(max=1).masked_fill((size == 0) | ~subject.finite, torch.nan)
