"""The rows of DeepLIFT where theirs can be told in one formula; the others stand in test_deep_lift.

captum and shap know modules by their classes. In a CIFAR network every ReLU is a function, so theirs is the gradient
times the difference to the baseline, which misses what it promises.
"""

from __future__ import annotations

from torch import Tensor

from tests.backends.cases import CIFAR, Case
from tests.backends.pairs import Pair
from xaikit.methods.base import METHODS

__all__ = ["DEEP_LIFT"]


def gradient_times_difference(values: Tensor, case: Case) -> Tensor:
    """The values where no nonlinearity is seen and the baseline is zero."""
    return METHODS.get("input-x-gradient")(case.classifier).attribute(case.pixels, case.target).values


DEEP_LIFT = [
    Pair(
        "deep-lift",
        "captum/deep-lift",
        CIFAR,
        formula=gradient_times_difference,
        differs="sees no ReLU that is a function",
    ),
]
