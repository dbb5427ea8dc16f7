"""Excitation backprop: the probability that a random walk from the class, along positive weights, ends at a pixel.

    P_j = x_j sum_i w+_ij P_i / (sum_k w+_ik x_k)        P starts at 1 at the class, biases take no part
    contrastive: the positive part of P minus the walk in which the weights of the last map are negated

In words: A random walk starts at the class and steps back from unit to unit along positive weights, more often to units
with large activations; the map shows how often it ends at each pixel. It is fine, never negative, and adds up to one if
no walk ends early. Evidence against the class has no place in it, and maps of different classes can look alike, because
all walks share the early layers; the contrastive variant subtracts the walk of the opposite. The paper shows layer
maps, which are coarser.

Completeness: every walk ends somewhere, so values sum to 1; those of the contrastive variant sum to 0 before the
positive part is taken. Walks that reach an output which no input excites end there, recorded as `absorbed_dead`.

A negative input excites through negative weights, so that the walk reaches the image. Sums and poolings use positive
parts only.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  probability.
Source: Zhang et al., ECCV 2016, arXiv:1608.00507, eq. 5 and 8.
Departs from source: the walk ends at the image (at a layer: layer_excitation_backprop.py); signed inputs as above;
    BatchNorm is folded into the map before it; the last map's two walks are propagated as one difference.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.balance import accounted, promising
from xaikit.methods.decomposition.composites import POSITIVE, Composite
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.propagation import relevance
from xaikit.methods.decomposition.rules import LinearMap, negative_parts, positive_parts, shared
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Variant = Literal["plain", "contrastive"]


@METHODS.register
@dataclass(frozen=True)
class ExcitationBackprop(InputMethod):
    """Winning probability of each pixel.

    Args:
        variant: "plain", or "contrastive" for what excites the class more than its opposite.
    """

    variant: Variant = "plain"

    name = "excitation-backprop"
    family = "decomposition"
    source = "Zhang et al., ECCV 2016, arXiv:1608.00507"
    signed = False
    needs = frozenset({"input-gradient"})
    passes = Cost(1, 2)

    def compute(self, batch: Batch) -> Values:
        """Return probabilities (n, C, H, W).

        Raises:
            BadInput: the target is not a class, or an operation (named) has no rule.
        """
        (walk,) = relevance(batch, WALKS[self.variant], lambda: [one_at_the_class(batch, self.name)])
        if self.variant == "plain":
            return accounted(walk)
        contrast = accounted(promising(walk, 0.0))
        return replace(contrast, values=contrast.values.sum(1).clamp_min(0))


def one_at_the_class(batch: Batch, method: str) -> Tensor:
    """Return the start of the walk (n, K): 1 at the class, else 0.

    Raises:
        BadInput: the target is not a class; the message names `method`.
    """
    batch.target.require_class(method)
    return F.one_hot(batch.target.index, batch.logits.shape[1]).to(batch.logits)


def _against_its_opposite(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by positive contributions, minus the same with negated weights."""
    excited = shared(positive_parts(step), None, relevance, ledger, 0.0)
    inhibited = shared(negative_parts(step), None, -relevance, ledger, 0.0)
    return [positive + negative for positive, negative in zip(excited, inhibited, strict=True)]


WALKS: dict[Variant, Composite] = {"plain": POSITIVE, "contrastive": replace(POSITIVE, last=_against_its_opposite)}
