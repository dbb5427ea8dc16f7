"""Deletion: area under the confidence while the map's highest pixels go, best first.

    deletion_i = trapezoid over t = j / J of p_c(x_ij)         x_ij: without the floor(P j / J) highest, J = steps

From the whole image to the fill alone, end points included; the area of MoRF. It rewards maps that are speckled like
an adversarial perturbation, so it is read beside insertion and never alone: see srg.

Direction: lower is better. Range: [0, 1]. Needs: maps, model.
Cost: steps - 1 forwards, less what another curve of this fill and order has measured.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421.
Departs from source: 50 steps at any size instead of one step a row; the axis is t = j / J, which is the share deleted
    to within one pixel.
"""

from __future__ import annotations

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
    """Area under the confidence while the highest pixels go, best first.

    Args:
        steps: pixels go in so many equal parts.
        fill: what they become.
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
        """The steps between the end points."""
        return Cost(self.steps - 1)
