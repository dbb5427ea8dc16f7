"""Sensitivity-n: whether a map predicts what removing n superpixels does, for n from one to most.

    value = mean_n corr_s( sum_{p in S_s} a_p,  F_c(x) - F_c(x with S_s filled) )      |S_s| = n superpixels

Few superpixels ask for each one's own effect, many for what they do together. 1 for the true contributions of an
additive model. The network's side is measured once an image for all methods.

Shapes: value (N,) in [-1, 1]; NaN where no n has a correlation: the map or the network answers the same to all sets.
Source: Ancona et al., ICLR 2018, arXiv:1711.06104.
Departs from source: superpixels instead of pixels; the mean over n is the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import pearson
from xaikit.measures.faithfulness.subsets import GridSubsets, responses
from xaikit.run.cost import Cost


@MEASURES.register
@dataclass(frozen=True)
class SensitivityN(Measure):
    """Correlation of the map's sums over n superpixels with the drop of the logit without them, mean over n.

    Args:
        sizes: the n; those that an image has no more superpixels than are left out.
        cells: superpixels along a side.
        subsets: number of sets for each n.
        fill: what removed pixels become.
    """

    sizes: tuple[Count, ...] = (1, 2, 5, 10, 20, 40, 80, 140)
    cells: Count = 14
    subsets: Annotated[int, Ge(2)] = 100
    fill: Fill = "mean"

    name = "sensitivity-n"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "Ancona et al., ICLR 2018, arXiv:1711.06104"

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        if not self.sizes:
            raise BadInput("sizes: expected at least one number of superpixels, got none; (1, 10, 40) is short")

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean over n of the correlation over sets of n, (N,)."""
        return self.curve(subject).nanmean(1)

    def curve(self, subject: Subject) -> Tensor:
        """Return the correlation for each n that the images have superpixels for, (N, number of n)."""
        down, across = GridSubsets.grid(self.cells, subject.size)
        sizes = [size for size in self.sizes if size < down * across]
        every = [responses(subject, GridSubsets(self.subsets, self.fill, self.cells, size)) for size in sizes]
        found = [pearson(*one) for one in every] or [
            torch.full(subject.target.shape, torch.nan, dtype=torch.float64, device="cpu")
        ]
        return torch.stack(found, 1).masked_fill(~subject.finite[:, None], torch.nan)

    def image_cost(self) -> Cost:
        """A forward a set."""
        return Cost(self.subsets * len(self.sizes))
