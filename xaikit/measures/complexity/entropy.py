"""Entropy: over how many pixels the map's magnitude is spread.

    value = -sum_p q_p ln q_p / ln P        q = |a| / sum |a|

1 where all pixels are equal, 0 where one has everything; times ln P it is in nats. Concentrated is not faithful: the
measure has no direction. It is not the entropy of the histogram of values, which the efficient parameter randomisation
test takes.

Shapes: value (N,) in [0, 1]; NaN for a map of zeros, or of one pixel.
Source: Bhatt et al. (complexity), IJCAI 2020, arXiv:2005.00631.
Departs from source: divided by ln P, so that sizes compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject


@MEASURES.register
@dataclass(frozen=True)
class Entropy(Measure):
    """Entropy of the map's magnitudes, as a share of the largest there is."""

    name = "entropy"
    direction = "none"
    range = (0.0, 1.0)
    source = "Bhatt et al., IJCAI 2020, arXiv:2005.00631"
    needs = frozenset({"maps"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the relative entropy of each map, (N,)."""
        magnitudes = subject.raw.abs().flatten(1)
        shares = magnitudes / magnitudes.sum(1, keepdim=True)
        largest = torch.tensor(math.log(shares.shape[1]), dtype=torch.float64, device="cpu")
        spread: Tensor = torch.special.entr(shares).sum(1) / largest
        return spread.clamp(0, 1).masked_fill(~subject.finite, torch.nan)
