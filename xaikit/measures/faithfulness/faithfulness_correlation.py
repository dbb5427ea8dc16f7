"""Faithfulness correlation: whether the map's sum over a region predicts the effect of removing the region.

    value = corr_s( sum_{p in S_s} a_p,  F_c(x) - F_c(x with S_s filled) )        S_s: a fifth of the superpixels

In words: Random fifths of the image are covered, and the map's sum over each is compared with the drop of the logit by
correlation. One means that the map predicts the drops, zero that it does not, below zero that it is inverted. It judges
the values and their signs, not only their order. The traps: covered images differ from the training data, the fill
matters, and 200 regions give only an estimate for one image, so average over many.

The value is 1 for the true contributions of an additive model. The logit drops are measured once per image and shared
by all methods.

Shapes: value (N,) in [-1, 1]; NaN where the sums or the drops are the same for all regions.
Source: Bhatt et al., IJCAI 2020, arXiv:2005.00631.
Departs from source: regions are sets of superpixels, as in Xplique's muFidelity, because the network's response to
    removing scattered pixels is mostly noise.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import pearson, spearman
from xaikit.measures.faithfulness.subsets import GridSubsets, responses
from xaikit.run.cost import Cost

Correlation = Literal["pearson", "spearman"]


@MEASURES.register
@dataclass(frozen=True)
class FaithfulnessCorrelation(Measure):
    """Correlation of the map's sums over random regions with the logit drops when these are removed.

    Args:
        cells: number of superpixels along a side.
        share: share of the superpixels in one region.
        subsets: number of regions.
        fill: value of removed pixels.
        correlation: "pearson" of the values or "spearman" of their order.
    """

    cells: Count = 14
    share: Annotated[float, Gt(0), Lt(1)] = 0.2
    subsets: Annotated[int, Ge(2)] = 200
    fill: Fill = "mean"
    correlation: Correlation = "pearson"

    name = "faithfulness-correlation"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "Bhatt et al., IJCAI 2020, arXiv:2005.00631"

    def compute(self, subject: Subject) -> Tensor:
        """Return the correlation over the regions, (N,)."""
        down, across = GridSubsets.grid(self.cells, subject.size)
        removed = max(1, round(self.share * down * across))
        sums, drops = responses(subject, GridSubsets(self.subsets, self.fill, self.cells, removed))
        values = (pearson if self.correlation == "pearson" else spearman)(sums, drops)
        return values.masked_fill(~subject.finite, torch.nan)

    def image_cost(self) -> Cost:
        """Return one forward per region."""
        return Cost(self.subsets)
