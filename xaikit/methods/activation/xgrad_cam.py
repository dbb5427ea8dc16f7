"""XGrad-CAM: activation maps weighted by their activation-weighted mean gradients.

    w_k = sum_xy G_kxy A_kxy / sum_xy A_kxy
    map = relu(sum_k w_k A_k)

In words: As in Grad-CAM, a layer's activation maps are added up with one weight per channel, but the gradient is
averaged mostly over the positions where the channel is active. The positive part of the sum is a coarse map of support
for the class; evidence against it is cut off. If pooling and one linear layer follow, it equals Grad-CAM. Activations
should not be negative, as after a ReLU: where those of a channel almost cancel, its weight becomes very large.

Before the ReLU the map has the same sum as HiResCAM's: the score without its bias if one linear map follows the layer.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Source: Fu et al., BMVC 2020, eq. 8, arXiv:2008.02312.
Departs from source: no constant is added to the denominator; a channel whose activations sum to zero has weight 0.
"""

from dataclasses import dataclass

import torch

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_EPSILON = 1e-7


@METHODS.register
@dataclass(frozen=True)
class XGradCAM(LayerMethod):
    """Positive part of the sum of activation maps, each weighted by its activation-weighted mean gradient."""

    name = "xgrad-cam"
    family = "activation"
    source = "Fu et al., BMVC 2020, arXiv:2008.02312"
    signed = False
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.05)

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        totals = activations.sum((2, 3))
        active = totals.abs() > _EPSILON * activations.abs().sum((2, 3))
        weights = torch.where(active, (gradients * activations).sum((2, 3)) / torch.where(active, totals, 1), 0)
        return Values(torch.einsum("nk,nkhw->nhw", weights, activations).relu())
