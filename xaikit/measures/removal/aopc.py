"""AOPC: mean drop of the confidence while pixels are removed, highest map values first.

    AOPC_i = mean over j = 0 ... J of y_i - p_c(x_ij)          x_ij: without the floor(P j / J) highest, J = steps

In words: Pixels are replaced by the fill, highest map values first, and the measure is the mean drop of the class's
probability on the way. High means that the map finds early the pixels that the network needs. It reads the deletion
curve and shares its traps: images with many replaced pixels differ from the training data, and scattered, speckled
pixels can destroy confidence without being the reason for it. Read it beside insertion, or take srg.

AOPC reads the deletion curve and, like deletion, rewards speckled maps.

Direction: higher is better. Range: [-1, 1]. Needs: maps, model.
Cost: steps - 1 forwards, minus those shared with other curves of this fill and order.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Samek et al., IEEE TNNLS 2017, arXiv:1509.06321.
Departs from source: all single pixels in 50 steps instead of the first 100 regions of 9 x 9; removed pixels become the
    mean colour instead of noise; the score is the probability.
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
class AOPC(Measure):
    """Mean drop of the confidence while pixels are removed, highest map values first.

    Args:
        steps: number of equal steps.
        fill: value of removed pixels.
    """

    steps: Count = 50
    fill: Fill = "mean"

    name = "aopc"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "Samek et al., IEEE TNNLS 2017, arXiv:1509.06321"

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean drop of each image, (N,)."""
        deletion = curve(subject, KeepProtocol(self.steps, "binary", self.fill, order="highest"))
        return deletion.y - deletion.o.mean(1)

    def cost(self) -> Cost:
        """Return the forwards of the steps between the end points."""
        return Cost(self.steps - 1)
