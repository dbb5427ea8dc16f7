"""SRG: symmetric relevance gain, the area with the least relevant pixels removed first minus that with the most first.

    SRG_i = LeRF_i - MoRF_i
    LeRF  = area under the confidence while the lowest pixels are removed first (insertion)
    MoRF  = area under the confidence while the highest pixels are removed first (deletion)

In words: Pixels are replaced by the fill twice, once the lowest map values first and once the highest, and the measure
is the difference of the areas under the class's probability. High means that the map orders the pixels as the network
needs them; a random map gets zero on average. What the fill does to any image is in both areas and cancels; the rest
still depends on the fill. Only the order of the pixels counts, not their values, and filled images differ from the
training data.

The effect of the fill itself is in both areas and cancels. The expected value of a random map is 0, a constant map has
exactly 0, and inverting a map without ties changes only the sign.

Direction: higher is better. Range: [-1, 1]. Needs: maps, model.
Cost: 2 (steps - 1) forwards, minus those shared with insertion, deletion or a binary keep curve of this fill; the
    default 50 steps of insertion and deletion contain the 10 of srg.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Bluecher et al., TMLR 2024, arXiv:2401.06654.
Departs from source: removed pixels become the mean colour by default.
"""

from dataclasses import dataclass

from torch import Tensor

from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve
from xaikit.run.cost import Cost


@MEASURES.register
@dataclass(frozen=True)
class SRG(Measure):
    """Area with the lowest pixels removed first minus the area with the highest removed first (LeRF - MoRF).

    Args:
        steps: number of equal steps.
        fill: value of removed pixels.
    """

    steps: Count = 10
    fill: Fill = "mean"

    name = "srg"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "Bluecher et al., TMLR 2024, arXiv:2401.06654"

    def compute(self, subject: Subject) -> Tensor:
        """Return the difference of the areas of each image, (N,)."""
        lowest_first = curve(subject, KeepProtocol(self.steps, "binary", self.fill))
        highest_first = curve(subject, KeepProtocol(self.steps, "binary", self.fill, order="highest"))
        return lowest_first.auc() - highest_first.auc()

    def cost(self) -> Cost:
        """Return the forwards of the steps between the end points, in both orders."""
        return Cost(2 * (self.steps - 1))
