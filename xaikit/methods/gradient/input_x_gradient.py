"""Input times gradient: each pixel's contribution to the score, to first order around the mean colour.

    values = x * d score / d x          x in the network's coordinates, where zero is the data's mean colour

In words: The gradient of the class score is multiplied by the normalised image. The map is fine, signed and specific to
the class: it estimates, to first order, what each pixel adds to the score compared with the mean colour. Pixels of the
mean colour get zero, however important they are. In deep networks the gradient changes from pixel to pixel and the map
is noisy. It costs one backward; integrated gradients spends more for values that add up to the score difference.

In a piecewise linear network without biases the values sum to the score. Biases account for the rest, so no
completeness gap is reported.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Shrikumar et al., 2016, arXiv:1605.01713, section 3.
Departs from source: nothing.
"""

from dataclasses import dataclass

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class InputXGradient(InputMethod):
    """Gradient times the normalised input."""

    name = "input-x-gradient"
    family = "gradient"
    source = "Shrikumar et al. 2016, arXiv:1605.01713"
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 1)

    def compute(self, batch: Batch) -> Values:
        """Return the gradient times the input, (n, C, H, W)."""
        return Values(batch.inputs * batch.input_gradients)
