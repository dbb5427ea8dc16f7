"""Contrastive LRP: relevance of the class minus relevance of its opposite.

    values = R(start) - r R(opposite)        start: z_c at c        r = sum R(start) / sum R(opposite)
    opposite "classes": z_c / (K - 1) at every other class          "weights": the class with its last weights negated

In words: LRP is run twice, for the class and for its opposite, by default all other classes together, and the second
map is subtracted from the first. The map is fine and signed: what serves the other classes as well cancels, and what
remains sets the class apart; negative regions speak more for the others. With the default balance its values add up to
zero, so they share out a contrast and not the score. Take it where LRP maps of different classes are the same up to
their sign.

Completeness: with the ratio r the values sum to 0. Without it (`balance="start"`) the starts sum to 0, and
sum(values) + absorbed = 0 with the amounts in the diagnostics.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  logit.
Source: Gu, Yang & Tresp, ACCV 2018, arXiv:1812.02100 (CLRP1 and CLRP2).
Departs from source: signed; `part="positive"` clips at zero as the paper does. Biases are excluded.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.balance import Relevance, accounted, promising
from xaikit.methods.decomposition.composites import Bias, CompositeName, Strength, composed
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.propagation import relevance
from xaikit.methods.decomposition.rules import LinearMap, negative_parts, shared
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ContrastiveLRP(InputMethod):
    """Relevance of a class minus relevance of its opposite.

    Args:
        opposite: "classes" starts evenly at all other classes; "weights" negates the weights of the last map.
        balance: "totals" scales the opposite to the same total relevance; "start" subtracts without scaling.
        part: "signed" keeps the whole difference; "positive" keeps its positive part.
        composite: rule of each kind of map, as in lrp.
        bias: whether biases absorb relevance, as in lrp.
    """

    opposite: Literal["classes", "weights"] = "classes"
    balance: Literal["totals", "start"] = "totals"
    part: Literal["signed", "positive"] = "signed"
    composite: CompositeName = "z-plus"
    bias: Bias = "zero"

    name = "contrastive-lrp"
    family = "decomposition"
    source = "Gu et al., ACCV 2018, arXiv:1812.02100"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the difference (n, C, H, W), or its positive part (n, H, W).

        Raises:
            BadInput: the target is not a class, there is one class only, or an operation (named) has no rule.
        """
        batch.target.require_class(self.name)
        own, other = self._both(batch)
        ratio = self._ratio(own, other)
        difference = own.values - ratio.to(own.values).reshape(-1, 1, 1, 1) * other.values
        absorbed = {reason: amount - ratio * other.absorbed[reason] for reason, amount in own.absorbed.items()}
        if self.balance == "totals":
            absorbed = {reason: torch.zeros_like(amount) for reason, amount in absorbed.items()}
        values = accounted(promising(replace(own, values=difference, absorbed=absorbed), 0.0))
        return values if self.part == "signed" else replace(values, values=values.values.sum(1).clamp_min(0))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Return a forward for the logits, one for each set of rules, and two backwards that recompute each map."""
        return Cost(2 if self.opposite == "classes" else 3, 4)

    def _both(self, batch: Batch) -> tuple[Relevance, Relevance]:
        """Return the relevance of the class and of its opposite."""
        composite = composed(self.composite, Strength.of(self.classifier), self.bias)
        classes = batch.logits.shape[1]
        one_hot = F.one_hot(batch.target.index, classes).to(batch.logits)
        start = one_hot * batch.logits
        if self.opposite == "weights":
            negated = replace(composite, last=_negated)
            (own,) = relevance(batch, composite, lambda: [start])
            (other,) = relevance(batch, negated, lambda: [start])
            return own, other
        if classes < 2:
            raise BadInput(f"{self.name}: expected at least two classes, got one; use opposite='weights'")
        dual = (1 - one_hot) * start.sum(1, keepdim=True) / (classes - 1)
        own, other = relevance(batch, composite, lambda: [start, dual])
        return own, other

    def _ratio(self, own: Relevance, other: Relevance) -> Tensor:
        if self.balance == "start":
            return torch.ones_like(own.promised)
        totals = [relevance.values.double().flatten(1).sum(1) for relevance in (own, other)]
        return torch.where(totals[1] == 0, 0, totals[0] / totals[1])


def _negated(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by z-plus with negated weights."""
    return shared(negative_parts(step), None, relevance, ledger)
