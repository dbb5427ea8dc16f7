"""The relevance engine: autograd carries relevance instead of gradients.

    forward    every operation computes what it always does
    backward   operations in the table hand relevance on by their rule; moving values about (flatten, cat, slicing,
               max-pooling's winner) is left to autograd, which does just that

Operations are seen through the probe as function calls, so functional, in-place and reused ones are all met one by one.
An operation outside the table is refused by name.

    with classifier.probe() as probe:
        tap = probe.attach(layer)
        carry_relevance(probe)
        logits = ...
    relevance, = torch.autograd.grad(logits, tap.activation, start)        outside the block

Source: Bach et al., PLoS ONE 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.core.errors import BadInput
from xaikit.core.probe import RELU, Probe
from xaikit.methods.decomposition.rules import Share, norm, proportional, unchanged, z_plus

__all__ = ["carry_relevance"]

Call = Callable[..., Any]

_ACTIVATIONS: tuple[Call, ...] = (
    *RELU,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.silu,
    F.gelu,
    F.hardswish,
    F.hardtanh,
    F.softplus,
)
_PASSED: tuple[Call, ...] = (F.batch_norm, torch.batch_norm, F.layer_norm, torch.layer_norm, *_ACTIVATIONS)
_POOLED: tuple[Call, ...] = (F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, Tensor.mean)
_SUMMED: tuple[Call, ...] = (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__)
_MOVED = frozenset(
    {
        *(torch.flatten, Tensor.flatten, Tensor.view, torch.reshape, Tensor.reshape, torch.squeeze, Tensor.squeeze),
        *(torch.unsqueeze, Tensor.unsqueeze, torch.permute, Tensor.permute, torch.transpose, Tensor.transpose),
        *(torch.cat, torch.stack, torch.chunk, Tensor.chunk, torch.split, Tensor.split, Tensor.__getitem__),
        *(F.dropout, F.dropout2d, Tensor.contiguous, Tensor.to, Tensor.float, Tensor.double, Tensor.clone),
        *(F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d, F.pad, Tensor.detach, Tensor.requires_grad_),
        *(torch.neg, Tensor.neg, Tensor.__neg__),
    }
)


def carry_relevance(probe: Probe) -> None:
    """Put the rules on a probe, for a forward inside its block."""
    probe.rule((F.linear,), _linear)
    probe.rule((F.conv2d, torch.conv2d), _convolution)
    probe.rule(_PASSED, _pass)
    probe.rule(_POOLED, _pool)
    probe.rule(_SUMMED, _sum)
    probe.observe(None, _refuse_unknown)


class _Carry(torch.autograd.Function):
    """An output that shares its relevance among inputs by a rule."""

    @staticmethod
    def forward(ctx: Any, share: Share, output: Tensor, *inputs: Tensor) -> Tensor:
        ctx.share = share
        return output.clone()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.share(relevance)


def _carried(share: Share, output: Tensor, *inputs: Tensor) -> Tensor:
    found: Tensor = _Carry.apply(share, output.detach(), *inputs)
    return found


def _linear(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    inputs, weight = args[0], args[1]
    output = function(*args, **kwargs)
    if not inputs.requires_grad:
        return output
    return _carried(z_plus(F.linear, inputs.detach(), weight.detach()), output, inputs)


def _convolution(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = (
        dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False)) | kwargs
    )
    output = function(*args, **kwargs)
    inputs, weight = named.pop("input"), named.pop("weight")
    if not inputs.requires_grad:
        return output
    named.pop("bias", None)

    def without_bias(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, None, **named)

    return _carried(z_plus(without_bias, inputs.detach(), weight.detach()), output, inputs)


def _pass(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    inputs = args[0] if args else kwargs["input"]
    if not inputs.requires_grad:
        return function(*args, **kwargs)
    with torch.no_grad():
        output = function(*(inputs.detach().clone(), *args[1:]), **kwargs)
    return _carried(unchanged, output, inputs)


def _pool(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    inputs, rest = args[0], args[1:]
    output = function(*args, **kwargs)
    if not inputs.requires_grad:
        return output
    return _carried(norm(lambda x: function(x, *rest, **kwargs), inputs.detach()), output, inputs)


def _sum(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    first, second = args[0], args[1]
    tensors = [one for one in (first, second) if isinstance(one, Tensor) and one.requires_grad]
    if not tensors:
        return function(*args, **kwargs)
    with torch.no_grad():
        output = torch.add(first.detach() if isinstance(first, Tensor) else first, _plain(second), **kwargs)
    if len(tensors) == 1:
        return _carried(unchanged, output, tensors[0])
    return _carried(proportional(first.detach(), second.detach()), output, first, second)


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _refuse_unknown(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """Refuse an operation that mixes values by no rule, rather than let autograd's gradient pass for relevance."""
    if not isinstance(output, Tensor) or not output.requires_grad or function in _MOVED:
        return
    name = getattr(function, "__name__", str(function))
    if name != "__get__":
        raise BadInput(f"relevance: expected operations with a rule, got {name}; choose a layer after it")
