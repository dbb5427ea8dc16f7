"""The table of agreement: methods that change the input, without draws; test_perturbation.py has those that draw."""

from __future__ import annotations

from typing import Any

from tests.backends.cases import CIFAR
from tests.backends.pairs import Pair
from xaikit.backends.default_features import squares

__all__ = ["PERTURBATION"]


def same_squares(side: int, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ours and theirs for count x count squares of an image with this side."""
    numbers = squares((side, side), count)
    return {"segmentation": numbers[0, 0]}, {"feature_mask": numbers}


def ablation(side: int, count: int, networks: tuple[str, ...]) -> Pair:
    ours, theirs = same_squares(side, count)
    return Pair("feature-ablation", "captum/feature-ablation", networks, params=ours, their_params=theirs, images=2)


PERTURBATION = [ablation(32, 6, CIFAR), ablation(224, 4, ("squeezenet1_0",))]
