"""Deconvolution: the gradient, where each ReLU passes back the positive part, whatever its input was.

    values = d score / d x  with  g [g > 0]  in place of  g [x > 0]  at every ReLU

In words: The gradient is passed back through the network, but at every ReLU only its positive part is kept, whether or
not the unit was active. The map is fine and signed, but its values have no unit. It shows patterns that would excite
the units towards the class rather than what this image contributed. Since the ReLUs ignore the image, it is a tool for
looking at features, not evidence for a decision. Networks without a ReLU are refused.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  none.
Source: Zeiler & Fergus, ECCV 2014, section 2.1, arXiv:1311.2901.
Departs from source: starts at the score instead of one unit of a layer; ReLU6 is treated as a ReLU; other activations
    use their gradient (flag `not-only-relu`); a network without any ReLU raises BadInput.
"""

from dataclasses import dataclass

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.gradient.rectifiers import rectified_gradients
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Deconvolution(InputMethod):
    """Gradient with ReLUs applied in the backward pass only."""

    name = "deconvolution"
    family = "gradient"
    source = "Zeiler & Fergus, ECCV 2014, arXiv:1311.2901"
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 1)

    def compute(self, batch: Batch) -> Values:
        """Return the modified gradient at the input, (n, C, H, W)."""
        values, flags = rectified_gradients(batch, "deconvolution", self.name)
        return Values(values, flags=flags)
