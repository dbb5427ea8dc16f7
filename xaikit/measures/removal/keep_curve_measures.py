"""The measures on the keep curve, one value an image: api, apd, ir, dr, tie-rate, average-gain, keep-auc.

    api            max(o - y, 0) / y            dr             1[o < y]
    apd            max(y - o, 0) / y            tie-rate       1[o = y]
    ir             1[o > y]                     average-gain   max(o - y, 0) / (1 - y)
    keep-auc       trapezoid of o over t

at one level j of J, soft masks at t = 0 unless told otherwise, or as the mean over the levels below 1. Binary masks
remove nothing at t = 0, where all but tie-rate and keep-auc are 0: choose another level. All of one protocol read
one curve, which is measured once for a subject.

Shapes: value (N,) float64; NaN where the map is not finite.
Source: Lee and Han (Libra-CAM), IJCAI 2022; average-gain: Zhang et al. (Opti-CAM), 2024, arXiv:2301.07002.
Departs from source: keep-auc is defined here, because the paper does not say what its area is under.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

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

_PAPER = "Lee and Han (Libra-CAM), IJCAI 2022"


@dataclass(frozen=True)
class KeptConfidence(Measure):
    """A measure that reads the keep curve.

    Args:
        mask: "soft" or "binary".
        levels: thresholds are 0, 1 / levels, ..., 1.
        fill: what removed pixels become.
    """

    mask: Mask = "soft"
    levels: Count = 10
    fill: Fill = "mean"

    def curve(self, subject: Subject) -> KeepCurve:
        """Return the subject's keep curve under this measure's protocol, measured once."""
        return curve(subject, KeepProtocol(self.levels, self.mask, self.fill))

    def cost(self) -> Cost:
        """The levels of one map; those of one protocol are shared by all measures on its curve."""
        return Cost(self.levels - (self.mask == "binary"))


@dataclass(frozen=True)
class AtLevel(KeptConfidence):
    """A measure of one level of the keep curve.

    Args:
        level: j of the threshold j / levels, or "mean" over the levels below 1.
    """

    level: int | Literal["mean"] = 0

    def check(self) -> None:
        """Refuse a level beyond the last."""
        if self.level != "mean" and self.level not in range(self.levels + 1):
            raise BadInput(f"level: expected 0 to {self.levels} or 'mean', got {self.level!r}; it is j of j / levels")

    @abstractmethod
    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return the value of each image and level, (N, T)."""

    def compute(self, subject: Subject) -> Tensor:
        """Return the value of each image, (N,)."""
        values = self.per_level(self.curve(subject))
        return values[:, :-1].mean(1) if self.level == "mean" else values[:, self.level]


@MEASURES.register
@dataclass(frozen=True)
class API(AtLevel):
    """Relative gain of confidence; its mean is the Average Probability Increase."""

    name = "api"
    direction = "higher"
    range = (0.0, torch.inf)
    source = _PAPER

    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return max(o - y, 0) / y."""
        return curve.gains()


@MEASURES.register
@dataclass(frozen=True)
class APD(AtLevel):
    """Relative drop of confidence; its mean is the Average Probability Drop."""

    name = "apd"
    direction = "lower"
    range = (0.0, 1.0)
    source = _PAPER

    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return max(y - o, 0) / y."""
        return curve.drops()


@MEASURES.register
@dataclass(frozen=True)
class IncreaseRate(AtLevel):
    """Whether confidence rises; its mean is the Increase Rate."""

    name = "ir"
    direction = "higher"
    range = (0.0, 1.0)
    source = _PAPER

    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return 1 where o > y."""
        return curve.ups()


@MEASURES.register
@dataclass(frozen=True)
class DropRate(AtLevel):
    """Whether confidence falls; its mean is the Drop Rate."""

    name = "dr"
    direction = "lower"
    range = (0.0, 1.0)
    source = _PAPER

    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return 1 where o < y."""
        return curve.downs()


@MEASURES.register
@dataclass(frozen=True)
class TieRate(AtLevel):
    """Whether confidence stays exactly the same; always read beside ir and dr."""

    name = "tie-rate"
    direction = "none"
    range = (0.0, 1.0)
    source = "the rest of ir and dr"

    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return 1 where o = y."""
        return curve.tied()


@MEASURES.register
@dataclass(frozen=True)
class AverageGain(AtLevel):
    """Gain of confidence as a share of what could be gained: the bounded twin of api."""

    name = "average-gain"
    direction = "higher"
    range = (0.0, 1.0)
    source = "Zhang et al. (Opti-CAM), 2024, arXiv:2301.07002"

    def per_level(self, curve: KeepCurve) -> Tensor:
        """Return max(o - y, 0) / (1 - y)."""
        return curve.bounded_gains()


@MEASURES.register
@dataclass(frozen=True)
class KeepAUC(KeptConfidence):
    """Area under the confidence over the threshold; binary with the mean fill it is the insertion area."""

    name = "keep-auc"
    direction = "higher"
    range = (0.0, 1.0)
    source = "xaikit; as insertion: Petsiuk et al. (RISE), BMVC 2018, arXiv:1806.07421"

    def compute(self, subject: Subject) -> Tensor:
        """Return the area of each image, (N,)."""
        return self.curve(subject).auc()
