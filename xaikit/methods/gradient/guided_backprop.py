"""Guided backpropagation: the gradient, where each ReLU passes back only what is positive in both directions.

    values = d score / d x  with  g [x > 0] [g > 0]  in place of  g [x > 0]  at every ReLU

In words: The gradient is passed back through the network, but at every ReLU only positive values at active units are
kept. The map is fine, looks clean and outlines objects. According to Adebayo et al. it hardly depends on the class or
on the last layers' weights: it shows edges that the network detects rather than why it decided. Do not use it to
compare classes or to judge a decision; it is a picture of the features. Networks without a ReLU are refused.

The maps are sharp and hardly depend on the class or on the weights of the last layers (Adebayo et al. 2018): they show
edges that the network detects, not the reasons for its decision.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  none.
Source: Springenberg et al., 2015, arXiv:1412.6806, section 3.4.
Departs from source: ReLU6 is treated as a ReLU; other activations use their gradient (flag `not-only-relu`); a network
    without any ReLU raises BadInput.
"""

from dataclasses import dataclass

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.rectifiers import rectified_gradients
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class GuidedBackprop(InputMethod):
    """Gradient whose negative parts are set to zero at every ReLU."""

    name = "guided-backprop"
    family = "gradient"
    source = "Springenberg et al. 2015, arXiv:1412.6806"
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 1)

    def compute(self, batch: Batch) -> Values:
        """Return the guided gradient (n, C, H, W)."""
        values, flags = rectified_gradients(batch, "guided", self.name)
        return Values(values, flags=flags)
