"""AttnLRP: layer-wise relevance propagation with rules for attention.

    softmax      s = softmax(x)        R_i = x_i (R_i - s_i sum_j R_j)
    product      O = A V               R_A = A (R / 2O) V^T,   R_V likewise: half for each factor
    LayerNorm, GELU and the like       R_i = R_i
    linear maps                        rule gamma

In words: The logit is passed back through a transformer operation by operation, in proportion to what each input
contributed, down to the pixels. Attention takes part: the weights and what they weigh get half each, and the softmax
hands its share on by its first-order expansion. The map is fine, signed and specific to the class. Values add up to the
logit, less what biases, the softmax and stabilisers absorb. Larger gammas give calmer maps that differ less from class
to class.

It takes any network whose attention consists of products of matrices and a softmax, or is torch's own, also in windows.
Absorbed relevance is recorded and flagged as in lrp; `completeness` is the gap without it. What the softmax does not
pass on, the constant of its expansion, counts as absorbed by biases.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  score.
Source: Achtibat et al., ICML 2024, arXiv:2402.05602.
Departs from source: one gamma for all maps, where the paper searches for one of convolutions and one of linear layers
    of each network; the stabiliser is relative, as in lrp. A LayerNorm that is written out is shared by rule gamma.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from xaikit.foundation.parameters import NotNegative
from xaikit.methods.attention.attention_engine import AttentionEngine
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.balance import accounted
from xaikit.methods.decomposition.composites import Composite
from xaikit.methods.decomposition.propagation import relevance, start_at_the_score
from xaikit.methods.decomposition.rules import epsilon, gamma
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class AttnLRP(InputMethod):
    """Relevance of each pixel for the explained logit, passed back through attention.

    Args:
        gamma: additional weight of favoured contributions in linear maps; 0 is rule epsilon.
        epsilon: stabiliser of rule epsilon and of products, as a share of the mean |z| over a map's outputs.
    """

    gamma: NotNegative = 0.25
    epsilon: NotNegative = 1e-6

    largest = 1e9

    name = "attn-lrp"
    family = "attention"
    source = "Achtibat et al., ICML 2024, arXiv:2402.05602"
    needs = frozenset({"attention", "input-gradient"})
    passes = Cost(1, 4)

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the score.

        Raises:
            BadInput: the network has no attention, or an operation (named) has no rule.
        """
        steady = partial(epsilon, share=self.epsilon)
        linear = partial(gamma, factor=self.gamma) if self.gamma else steady
        composite = Composite(convolution=linear, dense=linear, mean=steady)
        (result,) = relevance(batch, composite, lambda: [start_at_the_score(batch)], AttentionEngine)
        return accounted(result)
