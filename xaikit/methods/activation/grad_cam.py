"""Grad-CAM: activation maps weighted by their mean gradient.

    map = relu(sum_k mean_xy(d score / d A_k) * A_k)

In words: The gradient of the class score is averaged over each channel of a layer, and the averages weight the layer's
activation maps. The positive part of the sum is a coarse map, one cell per position of the layer, of the regions that
support the class. Evidence against the class is cut off. Averaging the gradient can mark positions that the score
hardly depends on; HiResCAM does not average. It costs one forward and a short backward, which makes it a usual first
choice.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  score per unit of activation, times activation; not normalised.
Source: Selvaraju et al., ICCV 2017, eq. 1-2, arXiv:1610.02391.
Departs from source: nothing.
"""

from dataclasses import dataclass

import torch

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class GradCAM(LayerMethod):
    """Positive part of the sum of activation maps, each weighted by its mean gradient."""

    name = "grad-cam"
    family = "activation"
    source = "Selvaraju et al., ICCV 2017, arXiv:1610.02391"
    signed = False
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.05)

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        weights = gradients.mean((2, 3))
        return Values(torch.einsum("nk,nkhw->nhw", weights, activations).relu())
