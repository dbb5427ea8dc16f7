"""CAM: the class's own map, where the head is pooling and one linear map.

    map = sum_k W_ck * A_k        with  z_c = mean_xy map + b_c

Whether the head has that form is found out in numbers: each weight of shape (classes, channels) in the network is
tried, the last first, until the pooled activations give all logits to 1e-3. A head that pools one channel a class and
has no linear map after it (SqueezeNet) is its own map: map = A_c with z_c = mean_xy map.

Shapes: inputs (N, C, H, W) in [0, 1]; values (N, h, w), the layer's own grid, signed.
Units:  score; the map's mean is the logit without its bias.
Source: Zhou et al., CVPR 2016, eq. 1-2, arXiv:1512.04150.
Departs from source: nothing; class maps of fully convolutional heads follow Lin et al., Network in Network, 2014.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from xaikit.core.batch import Batch
from xaikit.core.errors import BadInput
from xaikit.core.method import METHODS, Cost, Family, LayerMethod, Need, Values
from xaikit.core.probe import Layer

__all__ = ["CAM"]

_TOLERANCE = 1e-3


@METHODS.register
@dataclass(frozen=True)
class CAM(LayerMethod):
    """The linear head's weights, applied to the activations before they are pooled."""

    name: ClassVar[str] = "cam"
    family: ClassVar[Family] = "activation"
    source: ClassVar[str] = "Zhou et al., CVPR 2016, arXiv:1512.04150"
    needs: ClassVar[frozenset[Need]] = frozenset({"activations"})

    @cached_property
    def place(self) -> Layer:
        """The layer that is pooled; for a fully convolutional head the class map itself."""
        class_map = self.classifier.outline().class_map
        default = self.classifier.outline().default
        asked = self.classifier.resolve_layer(self.layer)
        return class_map if class_map is not None and asked == default else asked

    def compute(self, batch: Batch) -> Values:
        """Return sum_k W_ck A_k, (n, h, w).

        Raises:
            BadInput: the head is not linear after pooling.
        """
        activations = batch.activations(self.place)
        by_class = _score_gradient(batch)
        if self.place == self.classifier.outline().class_map:
            return Values(torch.einsum("nk,nkhw->nhw", by_class, activations))
        weights = self._head(activations, batch.logits)
        return Values(torch.einsum("nk,nkhw->nhw", by_class @ weights, activations))

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward."""
        return Cost(1, 0)

    def _head(self, activations: Tensor, logits: Tensor) -> Tensor:
        """Return the linear head's weights (K, C)."""
        pooled = activations.mean((2, 3))
        errors = []
        for weights, bias in self._candidates(activations):
            error = _mismatch(pooled @ weights.T + bias, logits, self.classifier.outline().ends_in != "logits")
            if error <= _TOLERANCE:
                return weights
            errors.append(error)
        reason = (
            f"the pooled activations times its weights miss the logits by {100 * min(errors):.2g} %"
            if errors
            else f"no weights of shape ({self.classifier.outline().classes}, {activations.shape[1]}) follow it"
        )
        raise BadInput(
            f"cam: expected a head of global average pooling and one linear map after {str(self.place)!r}, {reason}; "
            "use grad-cam"
        )

    def _candidates(self, activations: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield weights (K, C) and bias (K,) of every module that could be the head, the last first."""
        classes, channels = self.classifier.outline().classes, activations.shape[1]
        for module in reversed(list(self.classifier.module.modules())):
            weight = getattr(module, "weight", None)
            if (
                not isinstance(weight, Tensor)
                or weight.shape[:2] != (classes, channels)
                or weight.numel() != classes * channels
            ):
                continue
            weights = weight.detach().to(activations).reshape(classes, channels)
            bias = getattr(module, "bias", None)
            bias = bias.detach().to(activations) if isinstance(bias, Tensor) else weights.new_zeros(classes)
            if self.classifier.output == "binary" and classes == 1:
                weights, bias = torch.cat([-weights, weights]), torch.cat([-bias, bias])
            yield weights, bias


def _score_gradient(batch: Batch) -> Tensor:
    """Return d score / d logits (n, K): one-hot for a class, plus and minus one for a contrast."""
    logits = batch.logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(batch.target.score(logits).sum(), logits)
    return gradient


def _mismatch(found: Tensor, logits: Tensor, up_to_constant: bool) -> float:
    """Return the largest difference relative to the logits' size; a softmax inside leaves a constant per image open."""
    if not len(logits):
        return 0.0
    difference = found - logits
    if up_to_constant:
        difference = difference - difference.mean(1, keepdim=True)
    return float(difference.abs().max() / logits.abs().max().clamp_min(1e-12))
