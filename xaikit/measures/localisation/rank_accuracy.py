"""Rank accuracy: share of the map's |G| highest pixels that lie on the evidence G.

    value = |top_k(a) inside G| / |G|        k = |G|

In words: As many of the highest pixels are taken as the evidence has, and the measure is the share of them that lies on
it: one if they are the evidence exactly. A map without information gets the evidence's share of the image. Only the
order counts, and ties get their expected value. It needs masks. The trap: masks drawn by people say where the object
is, not what the network used.

Ties count with their expected value, so that a constant map scores |G| / P.

Shapes: masks (N, H, W) bool; value (N,) in [0, 1]; NaN where the mask is empty.
Source: Arras et al. (relevance rank accuracy), Information Fusion 2022, arXiv:2003.07258.
Departs from source: the treatment of ties.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.localisation.overlap import covered_by_highest


@MEASURES.register
@dataclass(frozen=True)
class RankAccuracy(Measure):
    """Share of the map's highest pixels that lie on the evidence, for as many pixels as the evidence has."""

    name = "rank-accuracy"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Arras et al., Information Fusion 2022, arXiv:2003.07258"
    needs = frozenset({"maps", "masks"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the share on the evidence, (N,)."""
        covered, size = covered_by_highest(subject.raw, subject.evidence)
        return (covered / size).masked_fill((size == 0) | ~subject.finite, torch.nan)
