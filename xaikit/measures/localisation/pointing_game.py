"""Pointing game: whether the map's highest point lies on the evidence.

    value = |argmax a  inside  dilate(G)| / |argmax a|

In words: It asks whether the highest point of the map lies on the evidence: one if it does, zero if not, and a share
where several points are highest. It needs masks. All but the maximum is ignored, so a map may win and be wrong
everywhere else. The trap: large and central objects are hit by chance, as the control center shows; and masks drawn by
people say where the object is, not what the network used.

If several pixels share the maximum, the value is the share of them on the evidence.

Shapes: masks (N, H, W) bool; value (N,) in [0, 1]; NaN where the mask is empty.
Source: Zhang et al. (Excitation Backprop), ECCV 2016, arXiv:1608.00507.
Departs from source: no tolerance by default, since masks are exact (the paper uses boxes and 15 pixels); ties count
    with their expected value; the mean over classes is left to the table.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject

_SIDE = 224


@MEASURES.register
@dataclass(frozen=True)
class PointingGame(Measure):
    """Whether the highest point of the map lies on the evidence.

    Args:
        tolerance: largest distance from the evidence that counts as a hit, in pixels of an image with short side 224.
    """

    tolerance: Annotated[float, Ge(0), Lt(_SIDE)] = 0.0

    name = "pointing-game"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Zhang et al., ECCV 2016, arXiv:1608.00507"
    needs = frozenset({"maps", "masks"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the share of highest points on the evidence, (N,)."""
        evidence = subject.evidence
        highest = subject.raw == subject.raw.amax((1, 2), keepdim=True)
        near = _dilated(evidence, self.tolerance * min(subject.size) / _SIDE)
        hits = (highest & near).sum((1, 2)) / highest.sum((1, 2)).double()
        return hits.masked_fill(~evidence.any(2).any(1) | ~subject.finite, torch.nan)


def _dilated(masks: Tensor, radius: float) -> Tensor:
    """Return masks (N, H, W) extended by all pixels within `radius` pixels of them."""
    reach = int(radius)
    offsets = torch.arange(-reach, reach + 1, device="cpu")
    disc = (offsets[:, None].square() + offsets.square() <= radius**2).float()
    return F.conv2d(masks[:, None].float(), disc[None, None], padding=reach)[:, 0] > 0.5
