"""Layer excitation backprop: the probability that a random walk from the class comes through a place of a layer.

    map_xy = sum_k P_kxy        P as in excitation_backprop.py, carried back to the layer and no further
    contrastive: the same, less the walk for which the weights of the last map are negated; positive part of the sum

It is the form in which the paper shows its maps. What lies before the layer is not asked for a rule. Where the last map
reads the layer place by place (SqueezeNet's default layer), both walks come through every place alike, and the contrast
is zero, flag `constant`, but for places that nothing inhibits; an earlier layer has one that says more.

Completeness: values sum to 1, or for the contrastive variant, before its positive part is taken, to 0; walks that end
before the layer are booked as `absorbed_dead`, those that go round it, through a skip connection or another branch, as
`absorbed_bypass`.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  probability.
Source: Zhang et al., ECCV 2016, arXiv:1608.00507, eq. 5 and 8.
Departs from source: where an input is negative it excites through negative weights; the last map's two walks are
    carried on as one difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.methods.decomposition.engine import accounted, promising, relevance_at
from xaikit.methods.decomposition.excitation_backprop import WALKS, Variant, one_at_the_class
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_ROUNDING = 1e-5  # of what came together


@METHODS.register
@dataclass(frozen=True)
class LayerExcitationBackprop(LayerMethod):
    """Winning probability of each place of a layer.

    Args:
        variant: "plain", or "contrastive": what excites the class more than it excites its opposite.
    """

    variant: Variant = "plain"

    name = "layer-excitation-backprop"
    family = "decomposition"
    source = "Zhang et al., ECCV 2016, arXiv:1608.00507"
    signed = False
    needs = frozenset({"gradients"})

    def compute(self, batch: Batch) -> Values:
        """Return probabilities (n, h, w).

        Raises:
            BadInput: a target that is no class, an operation after the layer without a rule, by its name, or for a
                contrast no linear map after the layer.
        """
        found = relevance_at(batch, self.place, WALKS[self.variant], lambda: one_at_the_class(batch, self.name))
        if self.variant == "plain":
            walk = accounted(found)
            return replace(walk, values=walk.values.sum(1))
        contrast = accounted(promising(found, 0.0))
        rounding = max(_ROUNDING, 4 * torch.finfo(batch.arithmetic).eps)
        return replace(contrast, values=_beyond(rounding, contrast.values).clamp_min(0))

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward and a modified backward through the tail."""
        return Cost(1, 0.1)


def _beyond(rounding: float, walks: Tensor) -> Tensor:
    """Return the sum over channels (n, h, w) of differences (n, C, h, w); zero where no more than rounding is left."""
    left, size = walks.sum(1), walks.abs().sum(1)
    return torch.where(left.abs() > rounding * size, left, 0)
