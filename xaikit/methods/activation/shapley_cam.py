"""Shapley-CAM: activation maps weighted by a second-order estimate of their Shapley values.

    u   = z_c + log p_c "residual";  u = score "score"
    G   = d u / d A,   H = d^2 u / d A^2
    w_k = mean_xy (G - H A / 2)_k
    map = relu(sum_k w_k A_k)

In words: Grad-CAM weights the activation maps of a layer by the mean gradient, which describes the class score only
close to the picture. Here half the change of the gradient along the activations is subtracted, which approximates each
activation's Shapley value, its effect averaged over which others are there. The score is the logit plus the log
probability, so that other classes count too. The map is coarse and shows support only. It costs a second derivative.

If only ReLU, pooling and linear layers follow, H of a logit is zero: utility "score" is then Grad-CAM, and in
"residual" the softmax alone curves. Fused attention has no second derivative in torch and is refused.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid.
Units:  utility per unit of activation, times activation; not normalised.
Source: Cai, 2025, arXiv:2501.06261; utility "residual": its Residual Softmax Target-class (ReST).
Departs from source: nothing; a contrast or a callable, for which the paper defines no probability, needs "score".
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, LayerMethod, Values
from xaikit.model.target import Target
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost


@METHODS.register
@dataclass(frozen=True)
class ShapleyCAM(LayerMethod):
    """Positive part of the sum of activation maps, each weighted by its mean second-order Shapley value.

    Args:
        utility: what is explained: "residual" is the logit plus the log probability, "score" the score alone.
    """

    utility: Literal["residual", "score"] = "residual"

    name = "shapley-cam"
    family = "activation"
    source = "Cai 2025, arXiv:2501.06261"
    signed = False
    needs = frozenset({"gradients"})
    passes = Cost(2, 0.15)

    def compute(self, batch: Batch) -> Values:
        """Return relu(sum_k w_k A_k), (n, h, w).

        Raises:
            BadInput: utility "residual" with a target that is not a class or a regression, or an operation without a
                second derivative.
        """
        explained = batch
        if self.utility == "residual":
            batch.target.require_class(self.name)
            if self.classifier.output == "regression":
                raise BadInput(
                    f"{self.name}: expected a classifier with probabilities, got a regression; give utility='score'"
                )
            explained = batch.at(batch.inputs, torch.arange(len(batch), device=batch.inputs.device))
            explained.target = _Residual(**vars(batch.target), exclusive=self.classifier.output == "softmax")
        activations, gradients = explained.activations_and_gradients(self.place)
        weights = (gradients - self._curvature(explained) / 2).mean((2, 3))
        return Values(torch.einsum("nk,nkhw->nhw", weights, activations).relu())

    def _curvature(self, batch: Batch) -> Tensor:
        """Return H A (n, C, h, w), the derivative of the gradient along the activations."""
        with torch.enable_grad(), batch.classifier.probe() as probe:
            tap = probe.attach(self.place)
            utility = batch.target.score(batch.context.forward(batch.classifier, batch.inputs)).sum()
            activation = tap.activation
            (gradient,) = torch.autograd.grad(utility, activation, create_graph=True)
            product = None
            if gradient.requires_grad:
                along = (gradient * activation.detach()).sum()
                (product,) = torch.autograd.grad(along, activation, allow_unused=True)
        batch.context.counters.backwards += 2 * len(batch)
        product = torch.zeros_like(activation) if product is None else product
        return self.place.to_grid(product.detach()).to(batch.activations(self.place))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Residual(Target):
    """A class whose score is its logit plus its log probability.

    Args:
        exclusive: whether the probabilities are a softmax, not one sigmoid per class.
    """

    exclusive: bool

    def score(self, logits: Tensor) -> Tensor:
        """Return z_c + log p_c (N,) of logits (N, K)."""
        return self.pick(logits) + self.pick(logits.log_softmax(1) if self.exclusive else logsigmoid(logits))
