"""Sparseness: the Gini index of the map's magnitudes.

    value = sum_r (2 r - P - 1) |a|_(r) / (P sum |a|)        |a|_(1) <= ... <= |a|_(P)

In words: The Gini index of the map's absolute values tells how unequal they are: near one if few pixels hold almost
everything, zero if all are equal. Neither end is better: a sparse map is easier to read, but sparse does not mean
right. No network is run. The trap: maps of a coarse layer, enlarged to the image, cannot be as sparse as pixel maps, so
compare methods of the same resolution.

The value is 0 if all pixels are equal and near 1 if a single pixel is not zero. A sparse map need not be faithful, so
the measure has no direction. Maps are compared at the image's size; a map upsampled from 7 x 7 cells cannot be as
sparse as a pixel map.

Shapes: value (N,) in [0, 1]; NaN for a map of zeros.
Source: Chalasani et al., ICML 2020, arXiv:1810.06583.
Departs from source: nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject


@MEASURES.register
@dataclass(frozen=True)
class Sparseness(Measure):
    """Gini index of the map's magnitudes."""

    name = "sparseness"
    direction = "none"
    range = (0.0, 1.0)
    source = "Chalasani et al., ICML 2020, arXiv:1810.06583"
    needs = frozenset({"maps"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the Gini index of each map, (N,)."""
        ordered = subject.raw.abs().flatten(1).sort(1).values
        count = ordered.shape[1]
        weights = 2 * torch.arange(1, count + 1, dtype=torch.float64, device="cpu") - count - 1
        index = (ordered @ weights) / (count * ordered.sum(1))
        return index.clamp(0, 1).masked_fill(~subject.finite, torch.nan)
