"""ROAD: confidence after pixels are imputed in such a way that the mask's outline carries little information.

    road-morf = mean over t = j / J, 0 < j < J, of p_c(x_ij)   the highest floor(P j / J) pixels imputed
    road-lerf = the same with the lowest imputed
    road      = (road-lerf - road-morf) / 2                    0 in expectation for a random map

In words: Pixels are replaced by noisy averages of their neighbours, so that the shape of the holes tells the network
little. road-morf is the class's mean probability with the highest pixels replaced, low is better; road-lerf with the
lowest replaced, high is better; road is half their difference, zero for a random map. The traps: large holes become
smooth areas that still differ from the training data, and road-morf alone favours scattered pixels.

Removed pixels become the noisy weighted mean of their neighbours (imputation.py). The noise depends on image and seed
and is the same for all maps and levels. J = 5 removes 20, 40, 60 and 80 %; J = 10 removes 10, 20, ..., 90 %. The last
level is left out, because imputation needs pixels that are kept.

Direction: road and road-lerf higher, road-morf lower. Range: road [-0.5, 0.5], the others [0, 1]. Needs: maps, model.
Cost: levels - 1 forwards for each order, shared by the three measures, plus the imputation.
Shapes: value (N,) float64; NaN where the map is not finite.
Source: Rong et al., ICML 2022, arXiv:2202.00449.
Departs from source: the score is the probability of the class per image instead of the accuracy over all images.
"""

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
    """Base class of the measures on imputed images.

    Args:
        levels: J; the removed shares are 1 / J, ..., (J - 1) / J.
    """

    levels: Annotated[int, Ge(2)] = 5

    source = "Rong et al. (ROAD), ICML 2022, arXiv:2202.00449"

    @abstractmethod
    def compute(self, subject: Subject) -> Tensor:
        """Return the value of each image, (N,)."""

    def mean_confidence(self, subject: Subject, order: Order) -> Tensor:
        """Return the mean confidence (N,) over the levels between the whole image and the fill."""
        return curve(subject, KeepProtocol(self.levels, "binary", "imputed", order=order)).o[:, 1:-1].mean(1)

    def cost(self) -> Cost:
        """Return the forwards of one order."""
        return Cost(self.levels - 1)


@MEASURES.register
@dataclass(frozen=True)
class ROAD(_Imputed):
    """Half the difference in mean confidence between imputing the lowest and imputing the highest pixels."""

    name = "road"
    direction = "higher"
    range = (-0.5, 0.5)

    def compute(self, subject: Subject) -> Tensor:
        """Return half the difference of the two orders, (N,)."""
        return (self.mean_confidence(subject, "lowest") - self.mean_confidence(subject, "highest")) / 2

    def cost(self) -> Cost:
        """Return the forwards of both orders."""
        return Cost(2 * (self.levels - 1))


@MEASURES.register
@dataclass(frozen=True)
class ROADLeastRelevant(_Imputed):
    """Mean confidence when the lowest pixels are imputed."""

    name = "road-lerf"
    direction = "higher"
    range = (0.0, 1.0)

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean confidence of each image, (N,)."""
        return self.mean_confidence(subject, "lowest")


@MEASURES.register
@dataclass(frozen=True)
class ROADMostRelevant(_Imputed):
    """Mean confidence when the highest pixels are imputed."""

    name = "road-morf"
    direction = "lower"
    range = (0.0, 1.0)

    def compute(self, subject: Subject) -> Tensor:
        """Return the mean confidence of each image, (N,)."""
        return self.mean_confidence(subject, "highest")
