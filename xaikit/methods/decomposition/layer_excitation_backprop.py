"""Layer excitation backprop: the probability that a random walk from the class passes a position of a layer.

    map_xy = sum_k P_kxy        P as in excitation_backprop.py, propagated back to the layer
    contrastive: the positive part of map minus the walk in which the weights of the last map are negated

In words: A random walk starts at the class and steps back from unit to unit along positive weights, more often to units
with large activations; the map shows how often it passes each position of a layer. It is coarse, never negative, and
adds up to one where no walk ends early or bypasses the layer. It shows support only, often alike for several classes;
the contrastive variant keeps what excites the class more than its opposite, but can be empty if the layer is the last
before the logits.

The paper shows its maps in this form. Operations before the layer need no rule. Where the last map reads each position
of the layer separately (SqueezeNet's default layer), both walks pass every position with the same probability: the
contrast is zero (flag `constant`) except where nothing inhibits. Use an earlier layer there.

Completeness: values sum to 1; those of the contrastive variant sum to 0 before the positive part is taken. Walks that
end before the layer are recorded as `absorbed_dead`, those that bypass it (through a skip connection or another
branch) as `absorbed_bypass`.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  probability.
Source: Zhang et al., ECCV 2016, arXiv:1608.00507, eq. 5 and 8.
Departs from source: a negative input excites through negative weights; the last map's two walks are propagated as one
    difference.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.methods.decomposition.balance import accounted, promising
from xaikit.methods.decomposition.excitation_backprop import WALKS, Variant, one_at_the_class
from xaikit.methods.decomposition.propagation import relevance_at
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_ROUNDING = 1e-5  # relative to the sum of absolute values


@METHODS.register
@dataclass(frozen=True)
class LayerExcitationBackprop(LayerMethod):
    """Winning probability of each position of a layer.

    Args:
        variant: "plain", or "contrastive" for what excites the class more than its opposite.
    """

    variant: Variant = "plain"

    name = "layer-excitation-backprop"
    family = "decomposition"
    source = "Zhang et al., ECCV 2016, arXiv:1608.00507"
    signed = False
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.1)

    def compute(self, batch: Batch) -> Values:
        """Return probabilities (n, h, w).

        Raises:
            BadInput: the target is not a class, an operation after the layer (named) has no rule, or, for the
                contrastive variant, no linear map follows the layer.
        """
        walk = relevance_at(batch, self.place, WALKS[self.variant], lambda: one_at_the_class(batch, self.name))
        if self.variant == "plain":
            plain = accounted(walk)
            return replace(plain, values=plain.values.sum(1))
        contrast = accounted(promising(walk, 0.0))
        rounding = max(_ROUNDING, 4 * torch.finfo(batch.arithmetic).eps)
        return replace(contrast, values=_summed(contrast.values, rounding).clamp_min(0))


def _summed(values: Tensor, rounding: float) -> Tensor:
    """Return the sum over channels (n, h, w) of values (n, C, h, w), and zero where only rounding error remains."""
    total, size = values.sum(1), values.abs().sum(1)
    return torch.where(total.abs() > rounding * size, total, 0)
