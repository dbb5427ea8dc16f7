"""Coherency: whether the method returns the same map for the image that the map masks.

    coherency_i = (1 + r(I_i, I'_i)) / 2        I' = heatmap of the same class for the image x * I, r Pearson's

In words: The image is multiplied by its own map, the method explains the result for the same class, and both maps are
correlated. A value of one means that the map of the masked image is the same, one half that the maps are unrelated. The
trap: coherent is not right. A method that ignores the network and the image, such as the control center, always gets
one. It needs the method, which runs again.

x * I is taken in the network's own coordinates, where masked pixels become the mean colour.

Direction: higher is better. Range: [0, 1]. Needs: maps, model, method.
Cost: one attribution.
Shapes: maps (N, H, W) in [0, 1]; value (N,) float64; NaN where either map is not finite.
Source: Poppi et al., CVPR Workshops 2021, arXiv:2104.10252.
Departs from source: r of a constant map, which is undefined, is 1 if both maps are equal and else 0.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.correlation import pearson
from xaikit.run.attribution import Attribution


@MEASURES.register
@dataclass(frozen=True)
class Coherency(Measure):
    """Correlation of the map with the map of the masked image, scaled to [0, 1]."""

    name = "coherency"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Poppi et al., CVPRW 2021, arXiv:2104.10252"
    needs = frozenset({"maps", "model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the coherency of each image, (N,)."""
        again = subject.shared("masked attribution", lambda: _explained_again(subject))
        finite = subject.finite & torch.tensor(["invalid" not in flags for flags in again.flags], device="cpu")
        first, second = (maps.detach().cpu().double().flatten(1) for maps in (subject.maps, again.heatmap()))
        r = pearson(first, second).nan_to_num(0.0).masked_fill((first == second).all(1), 1.0)
        return ((1 + r) / 2).masked_fill(~finite, torch.nan)

    def explanations(self) -> int:
        """Return 1, for the masked image."""
        return 1


def _explained_again(subject: Subject) -> Attribution:
    """Return the method's attribution of the masked images; a map that is not finite masks everything."""
    maps = subject.maps.detach().to(subject.pixels)[:, None]
    maps = maps.masked_fill(~maps.isfinite(), 0)
    masked = maps * subject.pixels + (1 - maps) * subject.classifier.mean.to(subject.pixels)
    return subject.explainer.attribute(masked, subject.explained, context=replace(subject.context, progress=None))
