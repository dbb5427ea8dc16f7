"""The linear head: the weights of the linear layer after global average pooling, verified numerically.

    z = W mean_xy A + b        for all images and classes, to 1e-3 of W mean_xy A or to the network's rounding

Every module with weights of shape (classes, channels) is tried, last to first, whatever its class name. A head that is
linear for the images may not be for other activations, as where a ReLU is dead; `stays_linear` tries two of them.

Shapes: activations (n, C, h, w); logits (n, K); weights (K, C).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch

_ROUNDING_STEPS = 16  # of the logits, which a large bias makes coarse
_LEFT = 0.1  # factor of weak activations

_STAYS: WeakKeyDictionary[Classifier, dict[tuple[Layer, tuple[int, int]], bool]] = WeakKeyDictionary()


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
    errors = []
    for weights, bias in _candidates(classifier, activations):
        error = _mismatch(pooled @ weights.T, bias, batch.logits, seen.ends_in in ("softmax", "log-softmax"))
        if error <= _tolerance(batch):
            return Head(weights)
        errors.append(error)
    if errors:
        return Head(None, f"the pooled activations times its weights miss the logits by {100 * min(errors):.2g} %")
    return Head(None, f"no weights of shape ({seen.classes}, {activations.shape[1]}) follow it")


def stays_linear(batch: Batch, layer: Layer, activations: Tensor, weights: Tensor) -> bool:
    """Return whether a linear head is one without every second channel, and with weak activations, for the first image.

    It is tried once for each layer and size of images, in two forwards that are not counted.
    """
    seen = _STAYS.setdefault(batch.classifier, {})
    if (layer, batch.size) not in seen:
        pooled = activations[:1].mean((2, 3))
        ones = torch.ones_like(pooled)
        every_second = ones.clone()
        every_second[:, ::2] = 0
        kept = (every_second, _LEFT * ones)
        seen[layer, batch.size] = all(_follows(batch, layer, factors, pooled, weights) for factors in kept)
    return seen[layer, batch.size]


def _follows(batch: Batch, layer: Layer, factors: Tensor, pooled: Tensor, weights: Tensor) -> bool:
    """Return whether channels of the first image times `factors` (1, C) change the logits as a linear head does."""

    def change(maps: Tensor) -> Tensor:
        return maps * factors[..., None, None].to(maps)

    with torch.no_grad(), batch.classifier.probe() as probe:
        probe.replace(layer, lambda output: layer.changed(output, change))
        logits = batch.context.run(batch.classifier, batch.inputs[:1])
    linear = (pooled * (factors - 1)) @ weights.T
    ends_in = batch.classifier.outline().ends_in
    error = _mismatch(linear, batch.logits[:1], logits, ends_in in ("softmax", "log-softmax"))
    return error <= _tolerance(batch)


def _tolerance(batch: Batch) -> float:
    return max(1e-3, 4 * torch.finfo(batch.arithmetic).eps)


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
