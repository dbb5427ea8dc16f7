"""ADCC: harmonic mean of coherency, 1 - complexity and 1 - drop; it is high only if all three are high.

    ADCC_i = 3 / (1 / coherency_i + 1 / (1 - complexity_i) + 1 / (1 - drop_i))        0 if one of the three is 0

    coherency    see coherency.py
    complexity   mean of the map, see mean_map.py
    drop         max(y - o, 0) / y on x * I: apd at t = 0 with soft masks

In words: Three properties of a map are joined by their harmonic mean: the method gives the same map for the masked
image, the map is small, and the masked image keeps the confidence. The value is near one only if all three are good,
and near zero if one of them fails; a map of ones gets zero. It needs the method, which runs again. The trap: one number
hides which part failed, and the masked images differ from the training data. Look at coherency, mean-map and apd too.

A map of ones has no drop but full complexity, so its ADCC is 0.

Direction: higher is better. Range: [0, 1]. Needs: maps, model, method.
Cost: one attribution, shared with coherency, and one forward, shared with the soft keep curve.
Shapes: value (N,) float64; NaN where either map is not finite.
Source: Poppi et al., CVPR Workshops 2021, arXiv:2104.10252.
Departs from source: as coherency does.
"""

from dataclasses import dataclass

from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.complexity.coherency import Coherency
from xaikit.measures.complexity.mean_map import MeanMap
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve
from xaikit.run.cost import Cost


@MEASURES.register
@dataclass(frozen=True)
class ADCC(Measure):
    """Harmonic mean of coherency, 1 - complexity and 1 - drop."""

    name = "adcc"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Poppi et al., CVPRW 2021, arXiv:2104.10252"
    needs = frozenset({"maps", "model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the harmonic mean of each image, (N,)."""
        coherency = Coherency().compute(subject)
        complexity = MeanMap().compute(subject)
        drop = curve(subject, KeepProtocol(levels=1)).drops()[:, 0]
        return 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))

    def cost(self) -> Cost:
        """Return the forward of the masked image."""
        return Cost(1)

    def explanations(self) -> int:
        """Return 1, for coherency."""
        return 1
