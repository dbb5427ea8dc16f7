"""Saliency: the absolute gradient of the score with respect to each pixel.

    map = max_channel |d score / d x|

In words: The gradient tells how much the class score would change if a pixel changed a little. The map is the largest
absolute gradient of a pixel's colours: fine, specific to the class and without sign, so it shows where the score is
sensitive, not whether a pixel speaks for or against the class. Where the network is saturated, an important pixel may
have almost no gradient, and the map of a deep network is noisy. It costs one backward. Read it as sensitivity, not as
evidence.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W), or (N, C, H, W) signed gradients with `channels=True`.
Units:  score per standard deviation of the normalised input.
Source: Simonyan, Vedaldi & Zisserman, 2014, arXiv:1312.6034, section 3.
Departs from source: nothing.
"""

from dataclasses import dataclass

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class Saliency(InputMethod):
    """Largest absolute gradient over the colour channels."""

    name = "saliency"
    family = "gradient"
    source = "Simonyan et al. 2014, arXiv:1312.6034"
    signed = False
    reduction = "max-abs"
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 1)

    def compute(self, batch: Batch) -> Values:
        """Return the gradient (n, C, H, W)."""
        return Values(batch.input_gradients)
