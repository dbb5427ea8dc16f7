"""FEM: unusually strong activations of every channel, weighted by the channel's mean, without class or gradient.

    B_k = 1 where A_k >= mean A_k + deviations * std A_k, else 0        mean and standard deviation over positions
    map = sum_k mean(A_k) B_k

In words: In each channel of a layer, the positions whose activation lies two standard deviations or more above the
channel's mean are marked, and the marks are added up, each with the mean of its channel. The map is coarse and ignores
the class: every class gets the same map. It costs one forward and no gradient. Take it to see where many channels
respond more than usual, not to ask why the network chose a class.

A constant channel marks nothing: there is no unusual position in it.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  activation.
Source: Fuad et al., IPTA 2020.
Departs from source: images instead of videos; constant channels are left out, which the paper does not define.
"""

from dataclasses import dataclass

from xaikit.foundation.parameters import NotNegative
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class FEM(LayerMethod):
    """Sum over channels of the mean activation at positions of unusually strong activation.

    Args:
        deviations: how many standard deviations above its channel's mean an activation counts as strong.
    """

    deviations: NotNegative = 2.0

    name = "fem"
    family = "activation"
    source = "Fuad et al., IPTA 2020"
    class_specific = False
    needs = frozenset({"activations"})
    passes = Cost(1, 0)

    def compute(self, batch: Batch) -> Values:
        """Return sum_k mean(A_k) B_k, (n, h, w)."""
        activations = batch.activations(self.place)
        mean = activations.mean((2, 3), keepdim=True)
        deviation = activations.std((2, 3), correction=0, keepdim=True)
        varies = activations.amax((2, 3), keepdim=True) > activations.amin((2, 3), keepdim=True)
        strong = varies & (activations >= mean + self.deviations * deviation)
        return Values((mean * strong).sum(1))
