"""Layer-wise relevance propagation: the logit, passed back layer by layer in proportion to each input's contribution.

    R_j = sum_i x_j w_ij / (z_i + sign(z_i) e mean|z|) R_i        z_i = sum_j x_j w_ij + b_i        (rule epsilon)

In words: The logit is passed back layer by layer; every unit hands its share on to its inputs in proportion to what
they contributed, by a rule chosen for each kind of layer. The map is fine, signed and specific to the class. Values add
up to the logit, less what biases and stabilisers absorb. Other rules give other maps, so state the composite. With
rules of positive weights, the default for convolutions, maps of different classes can be almost the same up to their
sign; contrastive-lrp compares them.

Rules and composites are in rules.py and composites.py. The start is the explained logit at its class; for a contrast
both logits, for a callable each logit times the gradient of the score with respect to it.

Completeness: absorbed relevance is recorded, so that sum(values) + absorbed_bias + absorbed_stabiliser +
absorbed_dead = score, with the amounts in the diagnostics; `completeness` is the gap without them. Images for which
this sum is off by more than 1 % (outputs close to zero at the precision used) are flagged `unbalanced`; images of which
more than 90 % was absorbed, so that the map shows a small rest, are flagged `relevance-lost`.

A scale or shift of the image before the first map is normalisation and passes all relevance on.

BatchNorm, like any constant factor and shift per channel, is folded into the map before it (folding.py). Without such
a map (DenseNet) it is a scale and a bias.
LayerNorm is a linear map with its standard deviation held constant. Gates are constants (signals.py), so that an
activation written as a product, such as x * sigmoid(x), passes all relevance on, as the activation does. A border of
constants is no input but part of the bias, whether the convolution pads or the network does.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Bach et al., PLoS ONE 2015; Montavon et al., Explainable AI 2019; Kohlbrenner et al., IJCNN 2020.
Departs from source: the stabiliser is relative: 1e-6 of the mean |z| over a map's outputs for one image.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import NotNegative
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.balance import accounted
from xaikit.methods.decomposition.composites import (
    Bias,
    Composite,
    CompositeName,
    MaxPool,
    RuleName,
    Strength,
    composed,
)
from xaikit.methods.decomposition.propagation import relevance, start_at_the_score
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class LRP(InputMethod):
    """Relevance of each pixel for the explained logit.

    Args:
        composite: rule of each kind of map; a composite named like a rule uses that rule for every map.
        bias: "absorb" gives biases their share of the relevance; "zero" excludes them, so that their share reaches the
            image. Without biases the epsilon rule divides by sums near zero; in deep networks combine it with z-plus.
        convolution: rule of convolutions; None is the composite's.
        dense: rule of linear layers with flat inputs; None is the composite's.
        first: rule of the first map; None is the composite's.
        epsilon: stabiliser of the epsilon rule, as a share of the mean |z| over a map's outputs for one image.
        alpha: weight of positive contributions in alpha-beta, at least 1; beta is alpha - 1.
        gamma: additional weight of favoured contributions in the gamma rule.
        max_pool: "winner" gives a window's relevance to its largest value; "mean" shares it as mean pooling does
            (`amax` and `max`, which have no windows, always use the winner).
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

    largest = 1e9  # a gamma of this size is z-plus

    name = "lrp"
    family = "decomposition"
    source = "Bach et al., PLoS ONE 2015"
    needs = frozenset({"input-gradient"})

    def check(self) -> None:
        """Refuse z-box for inner maps."""
        for part in ("convolution", "dense"):
            if getattr(self, part) == "z-box":
                raise BadInput(f"{part}: expected a rule for inner maps, got z-box; use first='z-box'")

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the score.

        Raises:
            BadInput: an operation (named) has no rule.
        """
        (result,) = relevance(batch, self._composed(), lambda: [start_at_the_score(batch)])
        return accounted(result)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return one forward, and a backward that recomputes each map."""
        several = {"zero": 2, "epsilon": 2, "z-plus": 2, "epsilon-plus": 2, "epsilon-plus-flat": 2}
        return Cost(1, several.get(self.composite, 4))

    def _composed(self) -> Composite:
        return composed(
            self.composite,
            Strength.of(self.classifier, self.epsilon, self.alpha, self.gamma),
            self.bias,
            convolution=self.convolution,
            dense=self.dense,
            first=self.first,
            max_pool=self.max_pool,
        )
