"""The measures on the keep curve, one value per image: api, apd, ir, dr, tie-rate, average-gain, keep-auc.

    api            max(o - y, 0) / y            dr             1[o < y]
    apd            max(y - o, 0) / y            tie-rate       1[o = y]
    ir             1[o > y]                     average-gain   max(o - y, 0) / (1 - y)
    keep-auc       trapezoid of o over t

In words: The image is multiplied by its map, and the class's probability is compared with that of the whole image: api
is the relative gain, apd the relative drop, ir, dr and tie-rate tell whether it rises, falls or stays, average-gain is
a bounded api, and keep-auc is the area over growing thresholds. High api, ir, average-gain and keep-auc and low apd and
dr are better. The trap: bright maps remove little and do well; read them beside mean-map and the controls ones and
fake.

All but keep-auc are read at one level j of J, or as the mean over the levels below 1. The defaults are soft masks and
t = 0. Binary masks remove nothing at t = 0, where all but tie-rate and keep-auc are 0; choose another level for them.
All measures of one protocol read the same curve, which is measured once per subject.

Shapes: value (N,) float64; NaN where the map is not finite.
Source: Lee and Han (Libra-CAM), IJCAI 2022; average-gain: Zhang et al. (Opti-CAM), 2024, arXiv:2301.07002.
Departs from source: keep-auc is defined here, because the paper does not say what its area is under.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Count
from xaikit.images.fills import Fill
from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.protocol import KeepProtocol, Mask
from xaikit.measures.removal.shared_curves import curve
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class KeptConfidence(Measure):
    """Base class of the measures on the keep curve.

    Args:
        mask: "soft" or "binary".
        levels: J; the thresholds are 0, 1 / J, ..., 1.
        fill: value of removed pixels.
    """

    mask: Mask = "soft"
    levels: Count = 10
    fill: Fill = "mean"

    range = (0.0, 1.0)
    source = "Lee and Han (Libra-CAM), IJCAI 2022"

    def curve(self, subject: Subject) -> KeepCurve:
        """Return the subject's keep curve under this measure's protocol, measured once."""
        return curve(subject, KeepProtocol(self.levels, self.mask, self.fill))

    def cost(self) -> Cost:
        """Return the forwards of all levels, which the measures on one curve share."""
        return Cost(self.levels - (self.mask == "binary"))


@dataclass(frozen=True)
class AtLevel(KeptConfidence):
    """Base class of the measures that read one level of the keep curve, or the mean over levels.

    Args:
        level: j of the threshold j / levels, or "mean" over the levels below 1.
    """

    level: int | Literal["mean"] = 0

    per_level: ClassVar[Callable[[KeepCurve], Tensor]]
    """Returns the value of each image and level, (N, T)."""

    def check(self) -> None:
        """Raise BadInput for a level beyond the last."""
        if self.level != "mean" and self.level not in range(self.levels + 1):
            raise BadInput(f"level: expected 0 to {self.levels} or 'mean', got {self.level!r}; it is j of j / levels")

    def compute(self, subject: Subject) -> Tensor:
        """Return the value of each image, (N,)."""
        values = type(self).per_level(self.curve(subject))
        return values[:, :-1].mean(1) if self.level == "mean" else values[:, self.level]


@MEASURES.register
@dataclass(frozen=True)
class API(AtLevel):
    """Relative gain of confidence; its mean is the Average Probability Increase."""

    name = "api"
    direction = "higher"
    range = (0.0, torch.inf)
    per_level = KeepCurve.gains


@MEASURES.register
@dataclass(frozen=True)
class APD(AtLevel):
    """Relative drop of confidence; its mean is the Average Probability Drop."""

    name = "apd"
    direction = "lower"
    per_level = KeepCurve.drops


@MEASURES.register
@dataclass(frozen=True)
class IncreaseRate(AtLevel):
    """Whether confidence rises; its mean is the Increase Rate."""

    name = "ir"
    direction = "higher"
    per_level = KeepCurve.ups


@MEASURES.register
@dataclass(frozen=True)
class DropRate(AtLevel):
    """Whether confidence falls; its mean is the Drop Rate."""

    name = "dr"
    direction = "lower"
    per_level = KeepCurve.downs


@MEASURES.register
@dataclass(frozen=True)
class TieRate(AtLevel):
    """Whether confidence stays exactly the same; report it with ir and dr."""

    name = "tie-rate"
    direction = "none"
    source = "the rest of ir and dr"
    per_level = KeepCurve.tied


@MEASURES.register
@dataclass(frozen=True)
class AverageGain(AtLevel):
    """Gain of confidence as a share of the possible gain; a bounded alternative to api."""

    name = "average-gain"
    direction = "higher"
    source = "Zhang et al. (Opti-CAM), 2024, arXiv:2301.07002"
    per_level = KeepCurve.bounded_gains


@MEASURES.register
@dataclass(frozen=True)
class KeepAUC(KeptConfidence):
    """Area under the confidence over the threshold; with binary masks and the mean fill it is coarse insertion."""

    name = "keep-auc"
    direction = "higher"
    source = "xaikit; as insertion: Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421"

    def compute(self, subject: Subject) -> Tensor:
        """Return the area of each image, (N,)."""
        return self.curve(subject).auc()
