"""The linear head: the weights of the linear layer after global average pooling, verified numerically.

    z = W mean_xy A + b        for all images and classes, to 1e-3 of W mean_xy A or to the network's rounding

Every module with weights of shape (classes, channels) is tried, last to first, whatever its class name.

Shapes: activations (n, C, h, w); logits (n, K); weights (K, C).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xaikit.model.classifier import Classifier
from xaikit.run.batch import Batch

_ROUNDING_STEPS = 16  # of the logits, which a large bias makes coarse


@dataclass(frozen=True)
class Head:
    """The linear head of a network, or the reason why it has none.

    Args:
        weights: (K, C), or None if the head is not global average pooling and one linear map.
        reason: why `weights` is None.
    """

    weights: Tensor | None
    reason: str = ""


def linear_head(batch: Batch, activations: Tensor) -> Head:
    """Return the linear head after global average pooling of `activations` (n, C, h, w)."""
    classifier = batch.classifier
    pooled, seen = activations.mean((2, 3)), classifier.outline()
    tolerance = max(1e-3, 4 * torch.finfo(batch.arithmetic).eps)
    errors = []
    for weights, bias in _candidates(classifier, activations):
        error = _mismatch(pooled @ weights.T, bias, batch.logits, seen.ends_in in ("softmax", "log-softmax"))
        if error <= tolerance:
            return Head(weights)
        errors.append(error)
    if errors:
        return Head(None, f"the pooled activations times its weights miss the logits by {100 * min(errors):.2g} %")
    return Head(None, f"no weights of shape ({seen.classes}, {activations.shape[1]}) follow it")


def may_have_linear_head(classifier: Classifier, channels: int) -> bool:
    """Return whether some module's weights have the shape of a linear head on `channels`, without a forward."""
    blank = torch.zeros(1, channels, 1, 1, dtype=classifier.dtype, device=classifier.device)
    return next(_candidates(classifier, blank), None) is not None


def score_by_logits(batch: Batch, dtype: torch.dtype) -> Tensor:
    """Return d score / d logits (n, K) in a dtype: one-hot for a class, plus and minus one for a contrast."""
    logits = batch.logits.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(batch.target.score(logits).sum(), logits)
    return gradient.to(dtype)


def _candidates(classifier: Classifier, activations: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights (K, C) and bias (K,) of every module that could be the head, last to first."""
    classes, channels = classifier.outline().classes, activations.shape[1]
    for module in reversed(list(classifier.module.modules())):
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.numel() != classes * channels or weight.shape[0] != classes:
            continue
        weights = weight.detach().to(activations).reshape(classes, channels)
        bias = getattr(module, "bias", None)
        bias = bias.detach().to(activations) if isinstance(bias, Tensor) else weights.new_zeros(classes)
        if classifier.output == "binary" and classes == 1:
            weights, bias = torch.cat([-weights, weights]), torch.cat([-bias, bias])
        yield weights, bias


def _mismatch(linear: Tensor, bias: Tensor, logits: Tensor, up_to_constant: bool) -> float:
    """Return the largest difference relative to what the head adds to the bias, beyond the rounding of the logits.

    A final softmax leaves a constant per image open.
    """
    difference = linear + bias - logits
    if up_to_constant:
        difference = difference - difference.mean(1, keepdim=True)
        linear = linear - linear.mean(1, keepdim=True)
    rounding = _ROUNDING_STEPS * torch.finfo(logits.dtype).eps * logits.abs()
    sizes = linear.abs().amax(1, keepdim=True).clamp_min(torch.finfo(logits.dtype).tiny)
    return float(((difference.abs() - rounding).clamp_min(0) / sizes).max())
