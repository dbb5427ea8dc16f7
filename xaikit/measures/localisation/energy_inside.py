"""Energy inside: share of the map's positive values that lies on the evidence (relevance mass accuracy).

    value = sum_{p in G} max(a_p, 0) / sum_p max(a_p, 0)

In words: The measure is the share of the map's positive values that lies on the evidence: one if nothing is outside. A
map without information gets the evidence's share of the image, so report that share. It needs masks. The traps: maps
with a constant offset, such as those of RISE, are pulled down by it, coarse maps spill over small objects, and masks
drawn by people say where the object is, not what the network used.

An uninformative map scores the evidence's share of the image, about |G| / P.

Shapes: masks (N, H, W) bool; value (N,) in [0, 1]; NaN where the mask is empty or no value of the map is positive.
Source: Wang et al. (Score-CAM, energy-based pointing game), CVPR Workshops 2020, arXiv:1910.01279; Arras et al.
    (relevance mass), Information Fusion 2022, arXiv:2003.07258.
Departs from source: nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject


@MEASURES.register
@dataclass(frozen=True)
class EnergyInside(Measure):
    """Share of the map's positive values on the evidence."""

    name = "energy-inside"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Wang et al., CVPRW 2020, arXiv:1910.01279"
    needs = frozenset({"maps", "masks"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the share on the evidence, (N,)."""
        evidence, positive = subject.evidence, subject.raw.clamp(min=0)
        inside = positive.where(evidence, 0).sum((1, 2))
        outside = positive.where(~evidence, 0).sum((1, 2))
        share = inside / (inside + outside)
        return share.masked_fill(~evidence.any(2).any(1) | ~subject.finite, torch.nan)
