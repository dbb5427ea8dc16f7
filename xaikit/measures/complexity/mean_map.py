"""Mean map: how much of the image a map keeps, to be reported with every measure on soft masks.

    value_i = mean_p I_ip

In words: The mean of the heatmap, scaled to [0, 1], tells how much of the image the map keeps if it is used as a soft
mask: one keeps everything, zero nothing. Neither end is better. No network is run. Its use is beside the measures on
soft masks: a bright map removes little, so confidence survives whether or not it marks the right places. Two methods
whose mean maps differ much should not be compared by apd or ir alone.

A map that keeps everything has no drop and explains nothing; the mean map reveals this. It is the complexity of ADCC.

Shapes: maps (N, H, W) in [0, 1]; value (N,).
Source: Poppi et al., CVPR Workshops 2021, arXiv:2104.10252 (complexity).
Departs from source: nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject


@MEASURES.register
@dataclass(frozen=True)
class MeanMap(Measure):
    """Mean of the map over the image."""

    name = "mean-map"
    direction = "none"
    range = (0.0, 1.0)
    source = "Poppi et al., CVPRW 2021, arXiv:2104.10252"
    needs = frozenset({"maps"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean of each map, (N,)."""
        means = subject.maps.detach().cpu().double().flatten(1).mean(1)
        return means.masked_fill(~means.isfinite(), torch.nan)
