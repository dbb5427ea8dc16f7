"""ROAD: confidence after pixels were removed so that the network cannot see that they were.

    road-morf = mean over t = j / J, 0 < j < J, of p_c(x_ij)   the highest floor(P j / J) pixels imputed
    road-lerf = the same, the lowest imputed
    road      = (road-lerf - road-morf) / 2                    0 for a map that knows nothing

Removed pixels become the noisy weighted mean of their neighbours (imputation.py), so that the mask's outline carries
little information. The noise is fixed by image and seed, the same for all maps and levels. J = 5 removes 20, 40, 60
and 80 %, J = 10 each tenth but the last, for nothing can be imputed where nothing stays.

Direction: road and road-lerf higher, road-morf lower. Range: road [-0.5, 0.5], the others [0, 1]. Needs: maps, model.
Cost: levels - 1 forwards for each order, shared between the three; the imputation beside them.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Rong et al., ICML 2022, arXiv:2202.00449.
Departs from source: the score is the class's probability, one value an image, and not the accuracy over all images.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.measures.removal.protocol import KeepProtocol, Order
from xaikit.measures.removal.shared_curves import curve
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class _Imputed(Measure):
    """A measure of imputed images.

    Args:
        levels: J; the shares removed are 1 / J, ..., (J - 1) / J.
    """

    levels: Annotated[int, Ge(2)] = 5

    source = "Rong et al. (ROAD), ICML 2022, arXiv:2202.00449"

    @abstractmethod
    def compute(self, subject: Subject) -> Tensor:
        """Return the value of each image, (N,)."""

    def mean_confidence(self, subject: Subject, order: Order) -> Tensor:
        """Return the mean confidence (N,) of an order over the levels between whole and gone."""
        return curve(subject, KeepProtocol(self.levels, "binary", "imputed", order=order)).o[:, 1:-1].mean(1)

    def cost(self) -> Cost:
        """The levels of one order."""
        return Cost(self.levels - 1)


@MEASURES.register
@dataclass(frozen=True)
class ROAD(_Imputed):
    """Half of what confidence gains if the lowest pixels are imputed and not the highest.

    Args:
        levels: J; the shares removed are 1 / J, ..., (J - 1) / J.
    """

    name = "road"
    direction = "higher"
    range = (-0.5, 0.5)

    def compute(self, subject: Subject) -> Tensor:
        """Return half the difference of the orders, (N,)."""
        return (self.mean_confidence(subject, "lowest") - self.mean_confidence(subject, "highest")) / 2

    def cost(self) -> Cost:
        """The levels of both orders."""
        return Cost(2 * (self.levels - 1))


@MEASURES.register
@dataclass(frozen=True)
class ROADLeastRelevant(_Imputed):
    """Mean confidence when the lowest pixels are imputed.

    Args:
        levels: J; the shares removed are 1 / J, ..., (J - 1) / J.
    """

    name = "road-lerf"
    direction = "higher"
    range = (0.0, 1.0)

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean confidence of each image, (N,)."""
        return self.mean_confidence(subject, "lowest")


@MEASURES.register
@dataclass(frozen=True)
class ROADMostRelevant(_Imputed):
    """Mean confidence when the highest pixels are imputed.

    Args:
        levels: J; the shares removed are 1 / J, ..., (J - 1) / J.
    """

    name = "road-morf"
    direction = "lower"
    range = (0.0, 1.0)

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean confidence of each image, (N,)."""
        return self.mean_confidence(subject, "highest")
