"""Insertion: area under the confidence while pixels are inserted, highest map values first.

    insertion_i = trapezoid over t = j / J of p_c(x_ij)        x_ij: all but the floor(P j / J) lowest pixels, J = steps

In words: Starting from the fill alone, the image's pixels are inserted, highest map values first, and the measure is
the area under the class's probability. High means that few pixels are enough for the network to recognise the class.
The traps: partly filled images differ from the training data, pixels of equal value come row by row, and whole regions
act differently from scattered pixels, so compare coarse maps with the control random-grid. Or take srg.

The curve runs from the fill alone to the whole image, end points included. With the mean fill, insertion equals the
area of the binary keep curve and LeRF. With fill="blur" it starts from a blurred image, which is closer to the
network's training data but still shows evidence of the class.

Direction: higher is better. Range: [0, 1]. Needs: maps, model.
Cost: steps - 1 forwards, minus those shared with other curves of this fill.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421.
Departs from source: 50 steps at any size instead of one step per row, the mean colour as the default fill, and a blur
    of sigma 10 at 224 instead of 5; the axis is t = j / J, which is the share inserted to within one pixel.
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
class Insertion(Measure):
    """Area under the confidence while pixels are inserted, highest map values first.

    Args:
        steps: number of equal steps.
        fill: value of pixels that are not inserted yet.
    """

    steps: Count = 50
    fill: Fill = "mean"

    name = "insertion"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421"

    def compute(self, subject: Subject) -> Tensor:
        """Return the area of each image, (N,)."""
        return curve(subject, KeepProtocol(self.steps, "binary", self.fill)).auc()

    def cost(self) -> Cost:
        """Return the forwards of the steps between the end points."""
        return Cost(self.steps - 1)
