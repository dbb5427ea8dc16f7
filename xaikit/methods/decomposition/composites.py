"""Composites: the rule of each kind of linear map.

    composite                    convolution    dense      first map
    zero, epsilon                the same everywhere
    z-plus, alpha-beta, gamma    the same everywhere
    epsilon-plus                 z-plus         epsilon    -
    epsilon-alpha2-beta1         alpha-beta     epsilon    -
    epsilon-plus-flat            z-plus         epsilon    flat
    epsilon-alpha2-beta1-flat    alpha-beta     epsilon    flat
    epsilon-gamma-box            gamma          epsilon    z-box

A linear layer applied at several positions counts as a 1x1 convolution. Every composite shares sums (also with
constants) and mean poolings by signed contributions (epsilon). Max-pooling gives its relevance to the winner, or is
shared as mean pooling (`max_pool`). Normalisations that are not folded get the convolution's rule. A map is "first"
if no map lies between it and the image, and "last" if none lies between it and the logits; there may be several.

Source: Montavon et al., Explainable AI 2019; Kohlbrenner et al., IJCNN 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from xaikit.methods.decomposition.rules import Kind, Rule, alpha_beta, epsilon, flat, gamma, w_squared, z_box, z_plus
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
    "zero": ("zero", "zero", None),  # convolution, dense, first
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
    """Parameters of the rules.

    Args:
        epsilon: stabiliser of the epsilon rule, as a share of mean |z|.
        alpha: weight of positive contributions in alpha-beta; beta is alpha - 1.
        gamma: additional weight of the favoured contributions in gamma.
        low: smallest possible inputs for z-box, (1, C, 1, 1).
        high: largest possible inputs for z-box, (1, C, 1, 1).
    """

    epsilon: float = 1e-6
    alpha: float = 2.0
    gamma: float = 0.25
    low: Tensor | None = None
    high: Tensor | None = None

    @classmethod
    def of(cls, classifier: Classifier, epsilon: float = 1e-6, alpha: float = 2.0, gamma: float = 0.25) -> Strength:
        """Return parameters whose `low` and `high` are the classifier's normalised black and white pixels."""
        black = torch.zeros_like(classifier.mean, dtype=torch.promote_types(classifier.dtype, torch.float32))
        return cls(epsilon, alpha, gamma, classifier.normalize(black), classifier.normalize(black + 1))

    def rule(self, name: RuleName) -> Rule:
        """Return the rule called `name`, with these parameters."""
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
        convolution: rule of convolutions and of normalisations that are not folded.
        dense: rule of linear layers with flat inputs.
        first: rule of the first maps, in place of `convolution` or `dense`.
        last: rule of the last maps, in place of all the above.
        mean: rule of sums (also with constants), poolings and products of two signals.
        bias: "absorb" gives biases their share of the relevance; "zero" excludes them.
        max_pool: "winner" gives a window's relevance to its largest value; "mean" shares it as mean pooling does.
        boxed: whether `first` is z-box, which needs the range of the normalised image.
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
        """Return the rule of a map of this kind and position."""
        if kind in ("sum", "pool", "shift", "product"):
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
"""z-plus everywhere, without stabiliser and biases: the sum of the relevance is preserved."""


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
    """Return the composite called `name`, with some of its rules replaced.

    Args:
        name: registered name of the composite.
        strength: parameters of the rules.
        bias: whether biases absorb relevance, as in `Composite`.
        convolution: rule of convolutions; None is the composite's.
        dense: rule of linear layers with flat inputs; None is the composite's.
        first: rule of the first map; None is the composite's.
        max_pool: how max-pooling is shared, as in `Composite`.
    """
    defaults = _NAMES[name]
    first = first or defaults[2]
    return Composite(
        strength.rule(convolution or defaults[0]),
        strength.rule(dense or defaults[1]),
        None if first is None else strength.rule(first),
        mean=strength.rule("zero" if name == "zero" else "epsilon"),
        bias=bias,
        max_pool=max_pool,
        boxed=first == "z-box",
    )
