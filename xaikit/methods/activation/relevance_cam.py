"""Relevance-CAM: activation maps weighted by the relevance that reaches them, against all other classes.

    start  +1 at the class, -others at each other class
    R_k    the start propagated back to the layer by the z+ rule (decomposition/rules.py)
    w_k    = sum_xy R_kxy
    map    = sum_k w_k A_k

In words: The relevance of the class, with all other classes counted against it, is propagated back to a layer by a rule
of LRP, and its sum over a channel is the weight of that channel's activation map. The map is coarse and signed:
negative regions speak more for the other classes. The weights follow values instead of gradients. It tells what
separates the class from the others, so do not read it as all the evidence for the class.

The rules are linear in the start, so one signed pass equals the difference of two.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid, signed.
Units:  relevance times activation; the positive part of the start is 1.
Source: Lee et al., CVPR 2021.
Departs from source: others = 1/K for K classes (the published code has 1/1000 for any K); the rule ignores biases (the
    published code adds a convolution's bias to both partial sums).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xaikit.foundation.parameters import Share
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.methods.decomposition.balance import accounted
from xaikit.methods.decomposition.composites import POSITIVE
from xaikit.methods.decomposition.propagation import relevance_at
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class RelevanceCAM(LayerMethod):
    """Activation maps weighted by contrastive z+ relevance.

    Args:
        others: magnitude of the negative start at each other class, in [0, 1]; None is one over the number of classes.
    """

    others: Share | None = None

    name = "relevance-cam"
    family = "activation"
    source = "Lee et al., CVPR 2021"
    needs = frozenset({"gradients"})
    passes = Cost(1, 0.1)

    def compute(self, batch: Batch) -> Values:
        """Return sum_k w_k A_k, (n, h, w).

        Raises:
            BadInput: the target is not a class, an operation after the layer has no rule, or the network ends in a
                softmax.
        """
        relevance = accounted(relevance_at(batch, self.place, POSITIVE, lambda: self._start(batch)))
        weights = relevance.values.sum((2, 3))
        maps = torch.einsum("nk,nkhw->nhw", weights, batch.activations(self.place))
        return replace(relevance, values=maps, completeness=None)

    def _start(self, batch: Batch) -> Tensor:
        """Return the start vector (n, K)."""
        batch.target.require_class(self.name)
        classes = batch.logits.shape[1]
        share = 1 / classes if self.others is None else self.others
        start = torch.full_like(batch.logits, -share)
        return start.scatter(1, batch.target.index[:, None], 1.0)
