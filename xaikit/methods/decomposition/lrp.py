"""Layer-wise relevance propagation: the logit, handed back layer by layer in proportion to what each input gave.

    R_j = sum_i x_j w_ij / (z_i + sign(z_i) e mean|z|) R_i        z_i = sum_j x_j w_ij + b_i        (rule epsilon)

Rules and composites are in rules.py and composites.py. The start is the explained logit at its class; for a contrast
both logits, for a callable each logit times the score's gradient there.

Completeness: what is absorbed is booked, so that sum(values) + absorbed_bias + absorbed_stabiliser + absorbed_dead =
score in the diagnostics; `completeness` is the gap without them. Images whose books do not balance to 1 % (outputs near
zero in the arithmetic's precision) are flagged `unbalanced`.

A scale or shift of the image before any map is its normalisation and hands everything on.

BatchNorm is folded into the map before it, on a copy. Where there is none (DenseNet), it is a scale and a bias;
LayerNorm is a map with its standard deviation held constant; gates are constants.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Bach et al., PLoS ONE 2015; Montavon et al., Explainable AI 2019; Kohlbrenner et al., IJCNN 2020.
Departs from source: the stabiliser is relative to the mean |z| of the image and map, and 1e-6 of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import NotNegative
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.composites import (
    Bias,
    Composite,
    CompositeName,
    MaxPool,
    RuleName,
    Strength,
    composed,
)
from xaikit.methods.decomposition.engine import accounted, relevance, start_at_the_score
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class LRP(InputMethod):
    """Relevance of each pixel for the explained logit.

    Args:
        composite: which rule each kind of map gets; the plain names give one rule to all of them.
        bias: "absorb": biases get their share of the relevance; "zero": they take no part, and it goes on to the image.
            Without them the epsilon rule alone divides by sums near zero: give it to deep networks with z-plus.
        convolution: rule of the convolutions, in place of the composite's.
        dense: rule of the linear maps of flat inputs, in place of the composite's.
        first: rule of the first map, in place of the composite's.
        epsilon: of the epsilon rule, as a share of the mean |z| of an image and map.
        alpha: weight of positive contributions in alpha-beta, at least 1; beta is alpha - 1.
        gamma: how much more favoured contributions count in the gamma rule.
        max_pool: who gets the relevance of a max-pooling's window: its "winner", or all as if it took their "mean"
            (`amax` and `max`, which have no window, keep their winner).
    """

    composite: CompositeName = "epsilon-plus-flat"
    bias: Bias = "absorb"
    convolution: RuleName | None = None
    dense: RuleName | None = None
    first: RuleName | None = None
    epsilon: NotNegative = 1e-6
    alpha: Annotated[float, Ge(1)] = 2.0
    gamma: NotNegative = 0.25
    max_pool: MaxPool = "winner"

    name = "lrp"
    family = "decomposition"
    source = "Bach et al., PLoS ONE 2015"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse parameters that do not go together."""
        for part in ("convolution", "dense"):
            if getattr(self, part) == "z-box":
                raise BadInput(
                    f"{part}: expected a rule for inner maps, got z-box; it knows the range of the image alone"
                )

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the score.

        Raises:
            BadInput: an operation without a rule, by its name.
        """
        (found,) = relevance(batch, self._composed(), lambda: [start_at_the_score(batch)])
        return accounted(found)

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward, one more where BatchNorm is folded, and a backward that runs each map anew."""
        several = {"zero": 2, "epsilon": 2, "z-plus": 2, "epsilon-plus": 2, "epsilon-plus-flat": 2}
        return Cost(2, several.get(self.composite, 4))

    def _composed(self) -> Composite:
        strength = Strength.of(self.classifier, self.epsilon, self.alpha, self.gamma)
        return composed(
            self.composite,
            strength,
            self.bias,
            convolution=self.convolution,
            dense=self.dense,
            first=self.first,
            max_pool=self.max_pool,
        )
