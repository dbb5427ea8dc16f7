"""Sensitivity-n: whether a map predicts the effect of removing n superpixels, for n from one to most of them.

    value = mean_n corr_s( sum_{p in S_s} a_p,  F_c(x) - F_c(x with S_s filled) )      |S_s| = n superpixels

In words: Random sets of n superpixels are covered, for n from one to most of the image, and the map's sum over a set is
correlated with the drop of the logit; the value is the mean over n. One means that the map predicts the drops, zero
that it does not. It judges the values and their signs. The traps: covered images differ from the training data, the
more the larger n is, and the mean hides at which n a map fails.

Small n tests individual effects, large n joint effects. The value is 1 for the true contributions of an additive model.
The logit drops are measured once per image and shared by all methods.

Shapes: value (N,) in [-1, 1]; NaN where no n has a correlation because the sums or the drops are equal for all sets.
Source: Ancona et al., ICLR 2018, arXiv:1711.06104.
Departs from source: superpixels instead of pixels; the mean over n is the value.
"""

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
    """Correlation of the map's sums over n superpixels with the logit drops when these are removed, mean over n.

    Args:
        sizes: values of n; those not below the image's number of superpixels are skipped.
        cells: number of superpixels along a side.
        subsets: number of sets for each n.
        fill: value of removed pixels.
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
        """Raise BadInput for an empty list of sizes."""
        if not self.sizes:
            raise BadInput("sizes: expected at least one number of superpixels, got none; give (1, 10), for example")

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean correlation over all n, (N,)."""
        return self.curve(subject).nanmean(1)

    def curve(self, subject: Subject) -> Tensor:
        """Return the correlation for each n below the images' number of superpixels, (N, number of n)."""
        down, across = GridSubsets.grid(self.cells, subject.size)
        regions = [
            GridSubsets(self.subsets, self.fill, self.cells, size) for size in self.sizes if size < down * across
        ]
        correlations = [pearson(*responses(subject, region)) for region in regions] or [
            torch.full((len(subject.maps),), torch.nan, dtype=torch.float64, device="cpu")
        ]
        return torch.stack(correlations, 1).masked_fill(~subject.finite[:, None], torch.nan)

    def image_cost(self) -> Cost:
        """Return one forward per set."""
        return Cost(self.subsets * len(self.sizes))
