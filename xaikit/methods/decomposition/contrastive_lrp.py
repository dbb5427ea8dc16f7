"""Contrastive LRP: what speaks for the class, less what speaks for its opposite as well.

    values = R(start) - r R(opposite)        start: z_c at c        r = sum R(start) / sum R(opposite)
    opposite "classes": z_c / (K - 1) at every other class          "weights": the class with its last weights negated

Completeness: with the ratio r the values sum to 0, and without it (`balance="start"`) the starts do; then
sum(values) + absorbed = 0 with the amounts of the diagnostics.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  logit.
Source: Gu, Yang & Tresp, ACCV 2018, arXiv:1812.02100 (CLRP1 and CLRP2).
Departs from source: signed; `part="positive"` cuts below zero as the paper does. Biases take no part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.composites import Bias, CompositeName, Strength, composed
from xaikit.methods.decomposition.engine import Relevance, accounted, promising, relevance
from xaikit.methods.decomposition.ledger import Ledger
from xaikit.methods.decomposition.rules import LinearMap, negative_parts, shared
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ContrastiveLRP(InputMethod):
    """Relevance for a class less relevance for its opposite.

    Args:
        opposite: "classes": all other classes alike; "weights": the class with its last weights negated.
        balance: "totals": what arrives of both is made equal; "start": they are subtracted as they are.
        part: "signed", or "positive" alone.
        composite: which rule each kind of map gets, as for lrp.
        bias: whether biases absorb relevance, as for lrp.
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
            BadInput: a target that is no class, a single class, or an operation without a rule, by its name.
        """
        batch.target.require_class(self.name)
        own, other = self._both(batch)
        ratio = self._ratio(own, other)
        values = own.values - ratio.to(own.values).reshape(-1, 1, 1, 1) * other.values
        absorbed = {reason: one - ratio * other.absorbed[reason] for reason, one in own.absorbed.items()}
        if self.balance == "totals":
            absorbed = {reason: torch.zeros_like(one) for reason, one in absorbed.items()}
        found = accounted(promising(replace(own, values=values, absorbed=absorbed), 0.0))
        return found if self.part == "signed" else replace(found, values=found.values.sum(1).clamp_min(0))

    def cost(self, size: tuple[int, int]) -> Cost:
        """Two forwards, one of them of the folded copy, and two backwards that run each map anew."""
        return Cost(2 if self.opposite == "classes" else 3, 4)

    def _both(self, batch: Batch) -> tuple[Relevance, Relevance]:
        composite = composed(self.composite, Strength.of(self.classifier), self.bias)
        classes = batch.logits.shape[1]
        chosen = F.one_hot(batch.target.index, classes).to(batch.logits)
        start = chosen * batch.logits
        if self.opposite == "weights":
            negated = replace(composite, last=_negated)
            (own,) = relevance(batch, composite, lambda: [start])
            (other,) = relevance(batch, negated, lambda: [start])
            return own, other
        if classes < 2:
            raise BadInput(f"{self.name}: expected several classes, got one; use opposite='weights'")
        dual = (1 - chosen) * start.sum(1, keepdim=True) / (classes - 1)
        own, other = relevance(batch, composite, lambda: [start, dual])
        return own, other

    def _ratio(self, own: Relevance, other: Relevance) -> Tensor:
        if self.balance == "start":
            return torch.ones_like(own.promised)
        totals = [one.values.double().flatten(1).sum(1) for one in (own, other)]
        return torch.where(totals[1] == 0, 0, totals[0] / totals[1])


def _negated(step: LinearMap, given: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share as z-plus does for negated weights."""
    return shared(negative_parts(step), None, given, ledger)
