"""Methods with parameters small enough for a test; those not named here are quick by themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from torch import nn

from tests.networks import GAPNet, bound
from tests.networks.tokens import Tokens
from xaikit.methods.base import METHODS, Method
from xaikit.model.classifier import Classifier

__all__ = ["SMALL", "classifier", "method", "network"]

SMALL: dict[str, dict[str, Any]] = {
    "libra-cam": {"references": 4},
    "integrated-gradients": {"steps": 4},
    "guided-integrated-gradients": {"steps": 4},
    "blur-integrated-gradients": {"steps": 4, "sigma": 3},
    "deep-lift-shap": {"references": 3},
    "expected-gradients": {"samples": 6, "references": 3},
    "smooth-grad": {"samples": 4},
    "smooth-grad-squared": {"samples": 4},
    "var-grad": {"samples": 4},
    "noise-grad": {"networks": 3},
    "fusion-grad": {"networks": 2, "samples": 2},
    "meaningful-perturbation": {"steps": 8},
    "extremal-perturbation": {"steps": 15},
    "is-cam": {"steps": 2},
    "opti-cam": {"steps": 2},
    "ss-cam": {"samples": 2},
    "smooth-grad-cam-plus-plus": {"samples": 3},
    "xrai": {"steps": 4},
    "rise": {"samples": 30},
    "lime": {"samples": 30, "segments": 6},
    "kernel-shap": {"segmentation": "grid", "segments": 6},
    "shapley-sampling": {"segmentation": "grid", "segments": 6, "samples": 4},
    "partition-shap": {"samples": 20},
    "sobol": {"samples": 4, "grid": 4},
    "hsic": {"samples": 30, "grid": 4},
}


def network(name: str) -> nn.Module:
    """Return a network for pictures of 8 x 8 pixels that a method can explain: one with attention, or else without."""
    return Tokens((8, 8)) if METHODS.get(name).family == "attention" else GAPNet()


@cache
def _attending() -> Classifier:
    return bound(Tokens((8, 8)))


def classifier(name: str) -> Classifier:
    """Return a classifier of `network(name)`; that of methods of attention is one for all tests, which leave it as is.

    Finding out where tokens lie on the image takes longer than the methods do.
    """
    return _attending() if METHODS.get(name).family == "attention" else bound(network(name))


def method(name: str, bound_to: Classifier, **params: Any) -> Method:
    """Return a method with small parameters, and those given."""
    return METHODS.get(name).build(bound_to, **(SMALL.get(name, {}) | params))


COSTLY = ("extremal-perturbation", "meaningful-perturbation", "xrai")


def marked(names: list[str]) -> list[Any]:
    """Return names for a parametrisation in which costly methods are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in COSTLY else []) for name in names]
