"""Entropy: how evenly the map's magnitude is spread over the pixels.

    value = -sum_p q_p ln q_p / ln P        q = |a| / sum |a|

In words: The map's absolute values are taken as shares of their sum, and the measure tells how evenly they are spread:
one if all pixels are equal, zero if a single pixel has everything. Neither end is better: a concentrated map is easier
to read but can point to the wrong place. No network is run. The trap: maps of a coarse layer, enlarged to the image,
cannot be as concentrated as pixel maps, so compare methods of the same resolution.

The value is 1 if all pixels are equal and 0 if a single pixel is not zero; multiplied by ln P it is in nats. A
concentrated map need not be faithful, so the measure has no direction. It differs from the entropy of the histogram of
values, which efficient-parameter-randomisation uses.

Shapes: value (N,) in [0, 1]; NaN for a map of zeros, or of one pixel.
Source: Bhatt et al. (complexity), IJCAI 2020, arXiv:2005.00631.
Departs from source: divided by ln P, so that image sizes are comparable.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject


@MEASURES.register
@dataclass(frozen=True)
class Entropy(Measure):
    """Entropy of the map's magnitudes, as a share of the maximum."""

    name = "entropy"
    direction = "none"
    range = (0.0, 1.0)
    source = "Bhatt et al., IJCAI 2020, arXiv:2005.00631"
    needs = frozenset({"maps"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the relative entropy of each map, (N,)."""
        magnitudes = subject.raw.abs().flatten(1)
        shares = magnitudes / magnitudes.sum(1, keepdim=True)
        relative: Tensor = torch.special.entr(shares).sum(1) / math.log(shares.shape[1])
        return relative.clamp(0, 1).masked_fill(~subject.finite, torch.nan)
