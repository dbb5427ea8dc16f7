"""AOPC: the mean fall of the confidence while the map's highest pixels go, best first.

    AOPC_i = mean over j = 0 ... J of y_i - p_c(x_ij)          x_ij: without the floor(P j / J) highest, J = steps

It reads the curve of deletion, and has its weakness for speckled maps.

Direction: higher is better. Range: [-1, 1]. Needs: maps, model.
Cost: steps - 1 forwards, less what another curve of this fill and order has measured.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Samek et al., IEEE TNNLS 2017, arXiv:1509.06321.
Departs from source: the whole image in 50 steps of single pixels, not its first 100 regions of 9 x 9; they become the
    mean colour and not noise; the score is the probability.
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
class AOPC(Measure):
    """Mean fall of the confidence while the highest pixels go, best first.

    Args:
        steps: pixels go in so many equal parts.
        fill: what they become.
    """

    steps: Count = 50
    fill: Fill = "mean"

    name = "aopc"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "Samek et al., IEEE TNNLS 2017, arXiv:1509.06321"

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean fall of each image, (N,)."""
        falling = curve(subject, KeepProtocol(self.steps, "binary", self.fill, order="highest"))
        return falling.y - falling.o.mean(1)

    def cost(self) -> Cost:
        """The steps between the end points."""
        return Cost(self.steps - 1)
