"""SRG: the symmetric relevance gain, by how much it is better to lose the least than the most relevant pixels first.

    SRG_i = LeRF_i - MoRF_i
    LeRF  = area under the confidence while the lowest pixels go first, which is insertion
    MoRF  = area under the confidence while the highest pixels go first, which is deletion

What the fill alone does to the network is in both areas and falls out: a map that knows nothing has 0 whatever the
network makes of half an image, a constant map exactly 0, an inverted map without ties the same with the other sign.

Direction: higher is better. Range: [-1, 1]. Needs: maps, model.
Cost: 2 (steps - 1) forwards, less what insertion, deletion or a binary keep curve of this fill has measured; 10 steps
    are among their 50.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Bluecher et al., TMLR 2024, arXiv:2401.06654.
Departs from source: removed pixels become the mean colour unless told otherwise.
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
class SRG(Measure):
    """Area when the lowest pixels go first, less the area when the highest do (LeRF - MoRF).

    Args:
        steps: pixels go in so many equal parts.
        fill: what they become.
    """

    steps: Count = 10
    fill: Fill = "mean"

    name = "srg"
    direction = "higher"
    range = (-1.0, 1.0)
    source = "Bluecher et al., TMLR 2024, arXiv:2401.06654"

    def compute(self, subject: Subject) -> Tensor:
        """Return the difference of the areas of each image, (N,)."""
        least = curve(subject, KeepProtocol(self.steps, "binary", self.fill))
        most = curve(subject, KeepProtocol(self.steps, "binary", self.fill, order="highest"))
        return least.auc() - most.auc()

    def cost(self) -> Cost:
        """The steps between the end points, in both orders."""
        return Cost(2 * (self.steps - 1))
