"""Operations: how each call of a torch function treats relevance.

    linear map    convolution, linear, matmul with a weight, BatchNorm and LayerNorm (standard deviation held constant),
                  mean pooling, interpolation, sums: a `LinearMap`, shared by a rule
    activation    every output is a function of one input: relevance passes unchanged
    product       the gate is a constant and the signal gets everything; two signals get half each (signals.py)
    border        padding with a constant: no input of the maps that read it; what still arrives is recorded as bias
    move          values are moved, copied or selected (flatten, cat, max-pooling): autograd's own backward
                  a composite may share max-pooling as mean pooling (amax and max always use the winner)

A function in none of the tables is refused by name where relevance arrives at it. The classes of modules do not matter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.rules import Kind, LinearMap, Part
from xaikit.model.torch_functions import (
    BATCH_NORMS,
    LARGEST,
    LINEARS,
    MAX_POOLS,
    MEAN_POOLS,
    MEANS,
    MINUS,
    MOVES,
    PLUS,
    REVERSED_MINUS,
    Call,
    named,
)

CHOICES = MOVES | MAX_POOLS | LARGEST | named("max_unpool2d copy")
"""Calls whose own backward passes relevance on: they move, copy or select values."""
SPREADS = named("interpolate upsample")
"""Linear maps that bring values to more positions."""


@dataclass(frozen=True)
class Reading:
    """A call read as a linear map of some of its arguments."""

    step: LinearMap
    sources: tuple[Tensor, ...]


def _kept(tensor: Tensor) -> Tensor:
    """Return a copy that later in-place operations cannot change."""
    return tensor.detach().clone()


def is_signal(value: Any) -> bool:
    """Return whether a value is a tensor that relevance flows through."""
    return isinstance(value, Tensor) and value.requires_grad


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _without(kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in names}


def _weighted(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], kind: Kind, axes: int) -> Reading | None:
    """Read a map of (input, weight, bias, ...); `axes` axes of the output follow that of the bias."""
    names = ("input", "weight", "bias")
    inputs, weight, bias = (_argument(args, kwargs, position, name) for position, name in enumerate(names))
    if weight.requires_grad or not is_signal(inputs):
        return None
    rest, named = args[3:], _without(kwargs, *names)
    part = Part(lambda x, w: function(x, w, None, *rest, **named), _kept(inputs), weight.detach())
    bias = None if bias is None else bias.detach().reshape(-1, *[1] * axes)
    return Reading(LinearMap(kind, (part,), bias), (inputs,))


def _convolution(axes: int, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    return _weighted(function, args, kwargs, "convolution", axes)


def _linear(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a linear layer; applied at several positions it is a 1x1 convolution."""
    dense = _argument(args, kwargs, 0, "input").ndim == 2
    return _weighted(function, args, kwargs, "dense" if dense else "convolution", 0)


def _matmul(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    inputs, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    if not is_signal(inputs) or weight.requires_grad:
        return None
    kind: Kind = "dense" if inputs.ndim == 2 else "convolution"
    return Reading(LinearMap(kind, (Part(torch.matmul, _kept(inputs), weight.detach()),)), (inputs,))  # type: ignore[arg-type]


def _batch_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a BatchNorm with running statistics as a scale and a bias per channel."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    if function is torch.batch_norm:
        names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
    arguments = dict(zip(names, args, strict=False)) | kwargs
    inputs, mean, variance = arguments["input"], arguments["running_mean"], arguments["running_var"]
    if not is_signal(inputs) or mean is None or arguments.get("training"):
        return None
    weight, bias = arguments.get("weight"), arguments.get("bias")
    scale = (variance + arguments.get("eps", 1e-5)).rsqrt() * (1 if weight is None else weight)
    shift = -mean * scale + (0 if bias is None else bias)
    shape = (-1, *[1] * (inputs.ndim - 2))
    part = Part(_scaled, _kept(inputs), scale.detach().reshape(shape))
    return Reading(LinearMap("scale", (part,), shift.detach().reshape(shape)), (inputs,))


def _scaled(x: Tensor, w: Tensor | None) -> Tensor:
    assert w is not None
    return x * w


def _centred(inputs: Tensor, rows: tuple[int, ...], weight: Any, bias: Any, eps: float, affine: int) -> Reading:
    """Read (x - mean x) * w / sd + b as a map of x and of its mean, with sd held constant.

    Args:
        inputs: x.
        rows: shape whose last axis is the one that mean and deviation are taken over.
        weight: w, or None.
        bias: b, or None.
        eps: constant added to the variance.
        affine: number of axes after the channel axis of weight and bias.
    """
    shape = inputs.shape
    detached = inputs.detach()
    deviation = (detached.reshape(rows).var(-1, correction=0, keepdim=True) + eps).sqrt()
    scale = deviation.expand(rows).reshape(shape).reciprocal()
    if weight is not None:
        scale = scale * weight.detach().reshape(*weight.shape, *[1] * affine)

    def mean(x: Tensor, w: Tensor | None) -> Tensor:
        return _scaled(x.reshape(rows).mean(-1, keepdim=True).expand(rows).reshape(shape), w)

    kept = _kept(inputs)
    parts = (Part(_scaled, kept, scale), Part(mean, kept, -scale))
    shift = None if bias is None else bias.detach().reshape(*bias.shape, *[1] * affine)
    return Reading(LinearMap("normalisation", parts, shift), (inputs,))


def _layer_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    arguments = dict(zip(names, args, strict=False)) | kwargs
    inputs, over = arguments["input"], tuple(arguments["normalized_shape"])
    if not is_signal(inputs):
        return None
    rows = (*inputs.shape[: inputs.ndim - len(over)], math.prod(over))
    return _centred(inputs, rows, arguments.get("weight"), arguments.get("bias"), arguments.get("eps", 1e-5), 0)


def _group_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    arguments = dict(zip(("input", "num_groups", "weight", "bias", "eps"), args, strict=False)) | kwargs
    inputs = arguments["input"]
    if not is_signal(inputs):
        return None
    rows = (inputs.shape[0], int(arguments["num_groups"]), inputs[0].numel() // int(arguments["num_groups"]))
    return _centred(
        inputs, rows, arguments.get("weight"), arguments.get("bias"), arguments.get("eps", 1e-5), inputs.ndim - 2
    )


def _pooled(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    inputs = _argument(args, kwargs, 0, "input")
    if not is_signal(inputs):
        return None
    rest, named = args[1:], _without(kwargs, "input")
    part = Part(lambda x, w: function(x, *rest, **named), _kept(inputs))
    return Reading(LinearMap("pool", (part,)), (inputs,))


def as_mean(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a max-pooling as the mean over its windows.

    Raises:
        BadInput: the windows are dilated, or the call returns indices.
    """
    name = function.__name__
    inputs = _argument(args, kwargs, 0, "input")
    if not is_signal(inputs):
        return None
    names: tuple[str, ...] = ("output_size", "return_indices")
    if not name.startswith("adaptive"):
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    options = dict(zip(names, args[1:], strict=False)) | _without(kwargs, "input")
    dilation = options.pop("dilation", 1)
    dilated = any(step != 1 for step in (dilation if isinstance(dilation, tuple | list) else (dilation,)))
    if dilated or options.pop("return_indices", False) or name.endswith("_with_indices"):
        raise BadInput(
            f"max_pool: expected windows without dilation and indices for 'mean', got {name}; use max_pool='winner'"
        )
    mean = getattr(F, name.replace("max", "avg"))
    part = Part(lambda x, w: mean(x, **options), _kept(inputs))
    return Reading(LinearMap("pool", (part,)), (inputs,))


def _sum(signs: tuple[int, int], function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read the sum or difference of two values; a value that is not a signal is a bias."""
    first, second = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    factors = (signs[0], signs[1] * kwargs.get("alpha", 1))
    if not is_signal(first) and not is_signal(second):
        return None
    parts: list[Part] = []
    sources: list[Tensor] = []
    bias: Tensor | None = None
    for term, factor in zip((first, second), factors, strict=True):
        if is_signal(term):
            kept = term.detach() * factor if factor != 1 else _kept(term)
            parts.append(Part(_itself, kept, source=len(sources)))
            sources.append(term)
        else:
            constant = term.detach() if isinstance(term, Tensor) else torch.tensor(float(term), device="cpu")
            bias = constant * factor
    bias = None if bias is None else bias.to(device=sources[0].device, dtype=sources[0].dtype)
    return Reading(LinearMap("sum" if len(parts) > 1 else "shift", tuple(parts), bias), tuple(sources))


def _itself(x: Tensor, w: Tensor | None) -> Tensor:
    return x


Reader = Callable[[Call, tuple[Any, ...], dict[str, Any]], Reading | None]

LINEAR: dict[Call, Reader] = {
    **{conv: partial(_convolution, axes) for axes in (1, 2, 3) for conv in named(f"conv{axes}d conv_transpose{axes}d")},
    **dict.fromkeys(LINEARS, _linear),
    **dict.fromkeys(named("matmul mm"), _matmul),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    **dict.fromkeys(MEANS | MEAN_POOLS | SPREADS | named("sum"), _pooled),
    **dict.fromkeys(named("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"), _pooled),
    **dict.fromkeys(PLUS, partial(_sum, (1, 1))),
    **dict.fromkeys(MINUS, partial(_sum, (1, -1))),
    **dict.fromkeys(REVERSED_MINUS, partial(_sum, (-1, 1))),
}
