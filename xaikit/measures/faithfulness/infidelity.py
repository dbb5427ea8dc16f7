"""Infidelity: error of the map as a prediction of the logit drops when squares are removed.

    u_s = sum_{p in S_s} a_p        v_s = F_c(x) - F_c(x with S_s filled)        beta = max(mean(u v) / mean(u^2), 0)

    infidelity             mean_s (beta u_s - v_s)^2                         squared logits, lower is better
    explained-fraction     1 - infidelity / mean_s v_s^2                     in [0, 1], higher is better

In words: Squares of three sizes are covered one at a time, and the map's sum over each, scaled as well as possible, is
to predict the drop of the logit. Infidelity is the mean squared error, low is better; it grows with the drops. The
explained fraction is the share of the squared drops that is predicted, from 0 to 1, and can be compared between images.
The trap: larger squares have larger drops, so even a map of ones explains something; compare with the controls.

The squares are removed one at a time, in three sizes. Map values are taken as contributions, so that the product of
perturbation and map is the map's sum over the square. The map is scaled by the optimal beta, because few methods return
values in logits. The logit drops are measured once per image and shared by all methods. Squared logits differ much from
image to image; compare methods over several images by the explained fraction. Larger squares have larger effects, so
that even a map of ones explains something; compare with the control methods.

Shapes: value (N,); infidelity is mean v^2 for an uninformative map; the fraction is NaN where no square changes F.
Source: Yeh et al., NeurIPS 2019, arXiv:1901.09392; scaling by beta: captum's `normalize=True`.
Departs from source: beta is not negative, because an inverted map explains nothing.
"""

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
    """Base class of the two measures.

    Args:
        patches: number of squares.
        sides: side lengths of the squares, as shares of the image's short side.
        fill: value of removed pixels.
    """

    patches: Annotated[int, Ge(2)] = 200
    sides: tuple[Annotated[float, Gt(0), Le(1)], ...] = (1 / 16, 1 / 8, 1 / 4)
    fill: Fill = "mean"

    def check(self) -> None:
        """Raise BadInput for an empty list of sides."""
        if not self.sides:
            raise BadInput("sides: expected at least one share of the short side, got none; give (0.125,), for example")

    def errors(self, subject: Subject) -> tuple[Tensor, Tensor]:
        """Return the mean squared error of the scaled map and the mean square of the drops, both (N,)."""
        sums, drops = responses(subject, Patches(self.patches, self.fill, self.sides))
        power = sums.square().mean(1)
        beta = ((sums * drops).mean(1) / power).clamp(min=0).masked_fill(power == 0, 0)
        error = (beta[:, None] * sums - drops).square().mean(1)
        return error.masked_fill(~subject.finite, torch.nan), drops.square().mean(1)

    def image_cost(self) -> Cost:
        """Return one forward per square."""
        return Cost(self.patches)


@MEASURES.register
@dataclass(frozen=True)
class Infidelity(Removal):
    """Mean squared error of the optimally scaled map as a prediction of the logit drops when squares are removed."""

    name = "infidelity"
    direction = "lower"
    range = (0.0, torch.inf)
    source = "Yeh et al., NeurIPS 2019, arXiv:1901.09392"

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean squared error of the scaled map, (N,)."""
        return self.errors(subject)[0]


@MEASURES.register
@dataclass(frozen=True)
class ExplainedFraction(Removal):
    """Share of the squared logit drops when squares are removed that the optimally scaled map predicts."""

    name = "explained-fraction"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Yeh et al., NeurIPS 2019, arXiv:1901.09392; as a share: xaikit"

    def compute(self, subject: Subject) -> Tensor:
        """Return 1 - infidelity / mean of the squared drops, (N,)."""
        error, power = self.errors(subject)
        return (1 - error / power).clamp(0, 1)
