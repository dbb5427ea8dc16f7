"""Softmax-gradient LRP: relevance that starts as the gradient of the class's probability.

    start_c = p_c (1 - p_c)        start_j = - p_c p_j        p = softmax(logits)

The start sums to 0, other classes count as much as the network mistakes the image for them, and the rest is LRP.

Completeness: sum(values) + absorbed = 0 with the amounts of the diagnostics.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  probability.
Source: Iwana, Kuroki & Uchida, ICCV Workshops 2019, arXiv:1908.04351, eq. 10.
Departs from source: where p_c is 1 in the arithmetic's precision p_c (1 - p_c) is held at 1e-8, so that a map is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.composites import Bias, CompositeName, Strength, composed
from xaikit.methods.decomposition.engine import accounted, relevance
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_SMALLEST = 1e-8


@METHODS.register
@dataclass(frozen=True)
class SoftmaxGradientLRP(InputMethod):
    """Relevance of each pixel for the class against those it is mistaken for.

    Args:
        composite: which rule each kind of map gets, as for lrp.
        bias: whether biases absorb relevance, as for lrp.
    """

    composite: CompositeName = "z-plus"
    bias: Bias = "zero"

    name = "softmax-gradient-lrp"
    family = "decomposition"
    source = "Iwana et al., ICCV Workshops 2019, arXiv:1908.04351"
    needs = frozenset({"input-gradient"})

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the probability's gradient.

        Raises:
            BadInput: a target that is no class, a single class, or an operation without a rule, by its name.
        """
        batch.target.require_class(self.name)
        if batch.logits.shape[1] < 2:
            raise BadInput(f"{self.name}: expected several classes, got one; use lrp")
        composite = composed(self.composite, Strength.of(self.classifier), self.bias)
        logits = batch.logits / 2 if self.classifier.output == "binary" else batch.logits  # [-z, z]: p = sigmoid(z)
        (found,) = relevance(batch, composite, lambda: [softmax_gradient(logits, batch.target.index)])
        return accounted(found)

    def cost(self, size: tuple[int, int]) -> Cost:
        """Two forwards, one of them of the folded copy, and a backward that runs each map anew."""
        return Cost(2, 2)


def softmax_gradient(logits: Tensor, index: Tensor) -> Tensor:
    """Return the gradient of the probability of class `index` (n,) by the logits (n, K), exact where it saturates."""
    chosen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, index[:, None], True)
    double = logits.double()
    others = double.masked_fill(chosen, -torch.inf)
    rest = (others.logsumexp(1) - double.logsumexp(1)).exp()
    size = (double.softmax(1)[chosen] * rest).clamp_min(_SMALLEST)
    return (size[:, None] * torch.where(chosen, 1, -others.softmax(1))).to(logits)
