"""Infidelity: how far a map misses what the network does when squares are removed.

    u_s = sum_{p in S_s} a_p        v_s = F_c(x) - F_c(x with S_s filled)        beta = max(mean(u v) / mean(u^2), 0)

    infidelity             mean_s (beta u_s - v_s)^2                         squared logits, lower is better
    explained-fraction     1 - infidelity / mean_s v_s^2                     in [0, 1], higher is better

The squares are removed one at a time, in three sizes. A map is taken as contributions, so that the perturbation times
the map is its sum over the square; it is scaled as well as it can be, for few methods promise logits. The network's
side is measured once an image for all methods. Squared logits differ much from image to image: compare methods over
several images by the explained fraction. Larger squares change more, so that even a map of ones explains something:
read it beside the controls.

Shapes: value (N,); infidelity is mean v^2 for a map that says nothing; the fraction is NaN where nothing changes F.
Source: Yeh et al., NeurIPS 2019, arXiv:1901.09392; scaling by beta: captum's `normalize=True`.
Departs from source: beta is not negative, because a map turned upside down explains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.images.fills import Fill
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.faithfulness.subsets import Patches, responses
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class Removal(Measure):
    """What both measures have in common.

    Args:
        patches: number of squares.
        sides: of the squares, as shares of the image's short side.
        fill: what removed pixels become.
    """

    patches: Annotated[int, Ge(2)] = 200
    sides: tuple[Annotated[float, Gt(0), Le(1)], ...] = (1 / 16, 1 / 8, 1 / 4)
    fill: Fill = "mean"

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        if not self.sides:
            raise BadInput("sides: expected at least one share of the short side, got none; (0.125,) is one")

    def missed(self, subject: Subject) -> tuple[Tensor, Tensor]:
        """Return the mean square of what the scaled map misses and of the drops themselves, both (N,)."""
        said, found = responses(subject, Patches(self.patches, self.fill, self.sides))
        strength = said.square().mean(1)
        scale = ((said * found).mean(1) / strength).clamp(min=0).masked_fill(strength == 0, 0)
        missed = (scale[:, None] * said - found).square().mean(1)
        return missed.masked_fill(~subject.finite, torch.nan), found.square().mean(1)

    def image_cost(self) -> Cost:
        """A forward a square."""
        return Cost(self.patches)


@MEASURES.register
@dataclass(frozen=True)
class Infidelity(Removal):
    """Mean squared error of the optimally scaled map as a prediction of what removing squares does to the logit."""

    name = "infidelity"
    direction = "lower"
    range = (0.0, torch.inf)
    source = "Yeh et al., NeurIPS 2019, arXiv:1901.09392"

    def compute(self, subject: Subject) -> Tensor:
        """Return what the scaled map misses, (N,)."""
        return self.missed(subject)[0]


@MEASURES.register
@dataclass(frozen=True)
class ExplainedFraction(Removal):
    """Share of what removing squares does to the logit that the optimally scaled map predicts."""

    name = "explained-fraction"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Yeh et al., NeurIPS 2019, arXiv:1901.09392; as a share: xaikit"

    def compute(self, subject: Subject) -> Tensor:
        """Return 1 - infidelity / mean of the squared drops, (N,)."""
        missed, total = self.missed(subject)
        return (1 - missed / total).clamp(0, 1)
