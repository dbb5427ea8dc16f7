"""Softmax-gradient LRP: relevance that starts as the gradient of the class's probability.

    start_c = p_c (1 - p_c)        start_j = - p_c p_j        p = softmax(logits)

In words: LRP is started with the gradient of the class's probability: positive at the class, negative at the others in
proportion to their probability. The map is fine and signed and shows what sets the class apart from those it is
confused with; negative regions speak for them. The start adds up to zero, so the values share out a contrast, not the
score. If the network is certain, the start is tiny, and the map's values with it; compare maps by shape only.

The start sums to 0, and each other class counts in proportion to its probability. The propagation is that of LRP.

Completeness: sum(values) + absorbed = 0 with the amounts in the diagnostics.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, H, W) summed over channels, or (N, C, H, W) with `channels=True`.
Units:  probability.
Source: Iwana, Kuroki & Uchida, ICCV Workshops 2019, arXiv:1908.04351, eq. 10.
Departs from source: p_c (1 - p_c) is at least 1e-8, so that the map does not vanish where p_c rounds to 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, InputMethod, Values
from xaikit.methods.decomposition.balance import accounted
from xaikit.methods.decomposition.composites import Bias, CompositeName, Strength, composed
from xaikit.methods.decomposition.propagation import relevance
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_SMALLEST = 1e-8


@METHODS.register
@dataclass(frozen=True)
class SoftmaxGradientLRP(InputMethod):
    """Relevance of each pixel for the class against the classes it competes with.

    Args:
        composite: rule of each kind of map, as in lrp.
        bias: whether biases absorb relevance, as in lrp.
    """

    composite: CompositeName = "z-plus"
    bias: Bias = "zero"

    name = "softmax-gradient-lrp"
    family = "decomposition"
    source = "Iwana et al., ICCV Workshops 2019, arXiv:1908.04351"
    needs = frozenset({"input-gradient"})
    passes = Cost(2, 2)

    def compute(self, batch: Batch) -> Values:
        """Return the relevance (n, C, H, W) of the probability's gradient.

        Raises:
            BadInput: the target is not a class, there is one class only, or an operation (named) has no rule.
        """
        batch.target.require_class(self.name)
        if batch.logits.shape[1] < 2:
            raise BadInput(f"{self.name}: expected at least two classes, got one; use lrp")
        composite = composed(self.composite, Strength.of(self.classifier), self.bias)
        logits = batch.logits / 2 if self.classifier.output == "binary" else batch.logits  # [-z, z]: p = sigmoid(z)
        (result,) = relevance(batch, composite, lambda: [softmax_gradient(logits, batch.target.index)])
        return accounted(result)


def softmax_gradient(logits: Tensor, index: Tensor) -> Tensor:
    """Return the gradient (n, K) of the probability of class `index` (n,) with respect to the logits (n, K).

    The gradient stays exact where the softmax saturates.
    """
    one_hot = torch.zeros_like(logits, dtype=torch.bool).scatter(1, index[:, None], True)
    double = logits.double()
    others = double.masked_fill(one_hot, -torch.inf)
    rest = (others.logsumexp(1) - double.logsumexp(1)).exp()
    size = (double.softmax(1)[one_hot] * rest).clamp_min(_SMALLEST)
    return (size[:, None] * torch.where(one_hot, 1, -others.softmax(1))).to(logits)
