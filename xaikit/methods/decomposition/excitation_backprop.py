"""Excitation backprop: the probability that a random walk from the class, along positive weights, ends at a pixel.

    P_j = x_j sum_i w+_ij P_i / (sum_k w+_ik x_k)        P starts at 1 at the class, biases take no part
    contrastive: the same, less the walk for which the weights of the last map are negated; positive part

Completeness: the walk ends somewhere, so values sum to 1, or for the contrastive variant, before its positive part is
taken, to 0. Walks that come to an output which no input excites end there and are booked as `absorbed_dead`.

Where an input is negative it excites through negative weights, so that the walk reaches the image; sums and poolings
count positive parts alone.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  probability.
Source: Zhang et al., ECCV 2016, arXiv:1608.00507, eq. 5 and 8.
Departs from source: the map is of the image (of a layer: layer_excitation_backprop.py); signed inputs as above;
    BatchNorm is folded into the map before it; the last map's two walks are carried on as one difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.composites import POSITIVE, Composite
from xaikit.methods.decomposition.engine import accounted, promising, relevance
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.rules import LinearMap, negative_parts, positive_parts, shared
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

Variant = Literal["plain", "contrastive"]


@METHODS.register
@dataclass(frozen=True)
class ExcitationBackprop(InputMethod):
    """Winning probability of each pixel.

    Args:
        variant: "plain", or "contrastive": what excites the class more than it excites its opposite.
    """

    variant: Variant = "plain"

    name = "excitation-backprop"
    family = "decomposition"
    source = "Zhang et al., ECCV 2016, arXiv:1608.00507"
    signed = False
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return probabilities (n, C, H, W).

        Raises:
            BadInput: a target that is no class, or an operation without a rule, by its name.
        """
        (found,) = relevance(batch, WALKS[self.variant], lambda: [one_at_the_class(batch, self.name)])
        if self.variant == "plain":
            return accounted(found)
        contrast = accounted(promising(found, 0.0))
        return replace(contrast, values=contrast.values.sum(1).clamp_min(0))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Two forwards, one of them of the folded copy, and a backward that runs each map anew."""
        return Cost(2, 2)


def one_at_the_class(batch: Batch, method: str) -> Tensor:
    """Return the start of a method's walk, (n, K).

    Raises:
        BadInput: a target that is no class.
    """
    batch.target.require_class(method)
    return F.one_hot(batch.target.index, batch.logits.shape[1]).to(batch.logits)


def _against_its_opposite(step: LinearMap, given: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by positive contributions, less the share for negated weights."""
    excited = shared(positive_parts(step), None, given, ledger, 0.0)
    inhibited = shared(negative_parts(step), None, -given, ledger, 0.0)
    return [one + other for one, other in zip(excited, inhibited, strict=True)]


WALKS: dict[Variant, Composite] = {
    "plain": POSITIVE,
    "contrastive": replace(POSITIVE, last=_against_its_opposite),
}
