"""Intersection over union of the evidence and the pixels that the map marks.

    value = |M inside G| / |M or G|

    threshold t      M = pixels with max(a, 0) >= t max(a)
    "mean"           mean over t = 0.05, 0.10, ..., 0.95, because a single threshold may reverse a ranking of methods
    "area"           M = the |G| highest pixels; ties count with their expected value

In words: The map is cut at a threshold, and the marked pixels are compared with the evidence: their common area divided
by the area of both together, one if they are the same. By default it is the mean over 19 thresholds, because a single
threshold may reverse a ranking of methods. It needs masks. The traps: a map that is right but marks only the most
telling part gets a low value, and masks drawn by people say where the object is, not what the network used.

Shapes: masks (N, H, W) bool; value (N,) in [0, 1]; NaN where the mask is empty or, with t, no value is positive.
Source: Zhou et al. (CAM, t = 0.2), CVPR 2016, arXiv:1512.04150.
Departs from source: pixels of exact masks instead of boxes around the largest component.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.localisation.overlap import covered_by_highest

_STEPS = 20


@MEASURES.register
@dataclass(frozen=True)
class IntersectionOverUnion(Measure):
    """Intersection over union of the evidence and the pixels that the map marks.

    Args:
        threshold: share of the map's maximum; "mean" over several shares; or "area" for as many pixels as the evidence.
    """

    threshold: Annotated[float, Gt(0), Le(1)] | Literal["mean", "area"] = "mean"

    name = "iou"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Zhou et al., CVPR 2016, arXiv:1512.04150"
    needs = frozenset({"maps", "masks"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the intersection over union, (N,)."""
        evidence = subject.evidence
        if self.threshold == "area":
            covered, size = covered_by_highest(subject.raw, evidence)
            values = covered / (2 * size - covered)
        else:
            shares = [step / _STEPS for step in range(1, _STEPS)] if self.threshold == "mean" else [self.threshold]
            values = torch.stack([_at(subject.raw, evidence, float(share)) for share in shares]).mean(0)
        return values.masked_fill(~evidence.any(2).any(1) | ~subject.finite, torch.nan)


def _at(maps: Tensor, evidence: Tensor, share: float) -> Tensor:
    """Return the IoU (N,) with the pixels that reach a share of the map's maximum; NaN if the maximum is not > 0."""
    highest = maps.amax((1, 2))
    marked = maps >= share * highest[:, None, None]
    overlap = (marked & evidence).sum((1, 2)) / (marked | evidence).sum((1, 2)).double()
    return overlap.masked_fill(~(highest > 0), torch.nan)
