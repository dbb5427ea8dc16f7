"""Composites: which rule each kind of linear map gets.

    composite                    convolution    dense      first map
    zero, epsilon                the same everywhere
    z-plus, alpha-beta, gamma    the same everywhere
    epsilon-plus                 z-plus         epsilon    -
    epsilon-alpha2-beta1         alpha-beta     epsilon    -
    epsilon-plus-flat            z-plus         epsilon    flat
    epsilon-alpha2-beta1-flat    alpha-beta     epsilon    flat
    epsilon-gamma-box            gamma          epsilon    z-box

A linear map at each of several places is a convolution of one pixel. Sums, also with constants, and poolings by mean
are shared by signed contributions (epsilon) in each of them; max-pooling goes to the winner, or is shared as a mean
(`max_pool`); normalisations that are left get the convolution's rule. The first map is the first that runs, the last
the last, among those that the score depends on.

Source: Montavon et al., Explainable AI 2019; Kohlbrenner et al., IJCNN 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.decomposition.rules import (
    Kind,
    Rule,
    alpha_beta,
    epsilon,
    flat,
    gamma,
    w_squared,
    z_box,
    z_plus,
)
from xaikit.model.classifier import Classifier

RuleName = Literal["zero", "epsilon", "z-plus", "alpha-beta", "gamma", "z-box", "w-squared", "flat"]
CompositeName = Literal[
    "zero",
    "epsilon",
    "z-plus",
    "alpha-beta",
    "gamma",
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "epsilon-gamma-box",
]
Bias = Literal["absorb", "zero"]
MaxPool = Literal["winner", "mean"]

_NAMES: dict[str, tuple[RuleName, RuleName, RuleName | None]] = {
    "zero": ("zero", "zero", None),
    "epsilon": ("epsilon", "epsilon", None),
    "z-plus": ("z-plus", "z-plus", None),
    "alpha-beta": ("alpha-beta", "alpha-beta", None),
    "gamma": ("gamma", "gamma", None),
    "epsilon-plus": ("z-plus", "epsilon", None),
    "epsilon-plus-flat": ("z-plus", "epsilon", "flat"),
    "epsilon-alpha2-beta1": ("alpha-beta", "epsilon", None),
    "epsilon-alpha2-beta1-flat": ("alpha-beta", "epsilon", "flat"),
    "epsilon-gamma-box": ("gamma", "epsilon", "z-box"),
}


@dataclass(frozen=True)
class Strength:
    """Numbers of the rules.

    Args:
        epsilon: share of mean |z| in the denominators of the epsilon rule.
        alpha: weight of positive contributions in alpha-beta; beta is alpha - 1.
        gamma: how much more the favoured contributions count.
        low: smallest inputs, (1, C, 1, 1), for z-box.
        high: largest inputs.
    """

    epsilon: float = 1e-6
    alpha: float = 2.0
    gamma: float = 0.25
    low: Tensor | None = None
    high: Tensor | None = None

    @classmethod
    def of(cls, classifier: Classifier, epsilon: float = 1e-6, alpha: float = 2.0, gamma: float = 0.25) -> Strength:
        """Return numbers with the normalised smallest and largest pixels of a classifier."""
        black = torch.zeros_like(classifier.mean, dtype=torch.promote_types(classifier.dtype, torch.float32))
        return cls(epsilon, alpha, gamma, classifier.normalize(black), classifier.normalize(black + 1))

    def rule(self, name: RuleName) -> Rule:
        """Return the rule of a name."""
        if name == "z-box":
            assert self.low is not None
            assert self.high is not None
            return partial(z_box, low=self.low, high=self.high)
        rules: dict[str, Rule] = {
            "zero": partial(epsilon, share=0.0),
            "epsilon": partial(epsilon, share=self.epsilon),
            "z-plus": z_plus,
            "alpha-beta": partial(alpha_beta, alpha=self.alpha),
            "gamma": partial(gamma, factor=self.gamma),
            "w-squared": w_squared,
            "flat": flat,
        }
        return rules[name]


@dataclass(frozen=True)
class Composite:
    """A rule for each kind of linear map.

    Args:
        convolution: of convolutions, and of normalisations that are left.
        dense: of linear maps of flat inputs.
        first: of the first map that runs, instead.
        last: of the last map that runs, instead.
        mean: of sums, also with a constant, and of poolings.
        bias: "absorb": biases get their share; "zero": they take no part.
        max_pool: who gets a window's relevance: its "winner", or all as if the pooling took their "mean".
        boxed: whether `first` goes by the range of the image that the network is given.
    """

    convolution: Rule
    dense: Rule
    first: Rule | None = None
    last: Rule | None = None
    mean: Rule = epsilon
    bias: Bias = "absorb"
    max_pool: MaxPool = "winner"
    boxed: bool = False

    def rule(self, kind: Kind, *, first: bool, last: bool) -> Rule:
        """Return the rule of a map."""
        if kind in ("sum", "pool", "shift"):
            return self.mean
        if kind in ("normalisation", "scale"):
            return self.convolution
        if last and self.last is not None:
            return self.last
        if first and self.first is not None:
            return self.first
        return self.dense if kind == "dense" else self.convolution


_WALK: Rule = partial(z_plus, share=0.0)
POSITIVE = Composite(convolution=_WALK, dense=_WALK, mean=_WALK, bias="zero")
"""Shares by positive contributions everywhere, without stabiliser and biases: what goes in comes out."""


def composed(
    name: CompositeName,
    strength: Strength,
    bias: Bias = "absorb",
    *,
    convolution: RuleName | None = None,
    dense: RuleName | None = None,
    first: RuleName | None = None,
    max_pool: MaxPool = "winner",
) -> Composite:
    """Return a composite by name, with rules of your own in place of some of its.

    Args:
        name: of the composite.
        strength: numbers of the rules.
        bias: what biases do.
        convolution: rule of convolutions instead.
        dense: rule of linear maps instead.
        first: rule of the first map instead.
        max_pool: who gets a window's relevance.
    """
    named = _NAMES[name]
    chosen = convolution or named[0], dense or named[1], first or named[2]
    mean: Rule = strength.rule("zero" if name == "zero" else "epsilon")
    return Composite(
        strength.rule(chosen[0]),
        strength.rule(chosen[1]),
        None if chosen[2] is None else strength.rule(chosen[2]),
        mean=mean,
        bias=bias,
        max_pool=max_pool,
        boxed=chosen[2] == "z-box",
    )
