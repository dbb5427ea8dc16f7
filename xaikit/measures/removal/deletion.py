"""Deletion: area under the confidence while pixels are removed, highest map values first.

    deletion_i = trapezoid over t = j / J of p_c(x_ij)         x_ij: without the floor(P j / J) highest, J = steps

In words: Pixels are replaced by the fill, highest map values first, and the measure is the area under the class's
probability. Low means that the confidence falls early, so that the map finds pixels that the network needs. The trap:
images with many replaced pixels differ from the training data, and speckled maps act like an adversarial perturbation,
so a low value may come from the holes and not from the evidence. Report it with insertion, or take srg.

The curve runs from the whole image to the fill alone, end points included; it is the MoRF curve. Deletion rewards maps
speckled like an adversarial perturbation, so report it together with insertion, or use srg.

Direction: lower is better. Range: [0, 1]. Needs: maps, model.
Cost: steps - 1 forwards, minus those shared with other curves of this fill and order.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421.
Departs from source: 50 steps at any size instead of one step per row; the axis is t = j / J, which is the share deleted
    to within one pixel.
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
class Deletion(Measure):
    """Area under the confidence while pixels are removed, highest map values first.

    Args:
        steps: number of equal steps.
        fill: value of removed pixels.
    """

    steps: Count = 50
    fill: Fill = "mean"

    name = "deletion"
    direction = "lower"
    range = (0.0, 1.0)
    source = "Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421"

    def compute(self, subject: Subject) -> Tensor:
        """Return the area of each image, (N,)."""
        return curve(subject, KeepProtocol(self.steps, "binary", self.fill, order="highest")).auc()

    def cost(self) -> Cost:
        """Return the forwards of the steps between the end points."""
        return Cost(self.steps - 1)
