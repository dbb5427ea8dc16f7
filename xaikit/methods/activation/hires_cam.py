"""HiResCAM: gradient times activation at each position, summed over channels.

    map = sum_k d score / d A_k (*) A_k

In words: Activation and gradient are multiplied at each position of a layer and added up over its channels. The map is
coarse and signed: positive regions raise the class score to first order, negative ones lower it. If only one linear map
follows the layer, the values add up to the score without its bias. With global average pooling before that map, it
equals Grad-CAM without the ReLU. Take it where positions must not be mixed, or where evidence against the class
matters.

If the network after the layer is one linear map, the map sums to the score without its bias.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid, signed.
Units:  score.
Source: Draelos & Carin, 2020, arXiv:2011.08891.
Departs from source: nothing; the paper's ReLU is for display and is not applied.
"""

from dataclasses import dataclass

import torch

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class HiResCAM(LayerMethod):
    """Gradient times activation of one layer, summed over channels."""

    name = "hires-cam"
    family = "activation"
    source = "Draelos & Carin 2020, arXiv:2011.08891"
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.05)

    def compute(self, batch: Batch) -> Values:
        """Return sum_k G_k (*) A_k, (n, h, w)."""
        activations, gradients = batch.activations_and_gradients(self.place)
        return Values(torch.einsum("nkhw,nkhw->nhw", gradients, activations))
