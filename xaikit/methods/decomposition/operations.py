"""Operations: what a call of a torch function is to relevance.

    linear map    convolution, linear, matmul with a weight, BatchNorm and LayerNorm (standard deviation held constant),
                  pooling by mean, interpolation, sums: a `LinearMap`, shared by a rule
    activation    every output is a function of one input: relevance is handed on as it is
    product       the gate is a constant and the signal gets everything; two signals get a half each
    border        padding: what falls on it is the bias's
    move          values are moved about, copied or chosen (flatten, cat, max-pooling): autograd does just that
                  a composite may have max-pooling shared as if it took the mean of its window (amax and max keep
                  their winner)

A function in no table is refused by its name; no class of module is ever asked for.
"""

from __future__ import annotations

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

SUMS = PLUS | MINUS | REVERSED_MINUS
CHOICES = MOVES | MAX_POOLS | LARGEST | named("max_unpool2d")
"""Calls of which autograd hands relevance on: values are moved, copied or chosen."""


@dataclass(frozen=True)
class Reading:
    """A call read as a linear map of some of its arguments."""

    step: LinearMap
    sources: tuple[Tensor, ...]


def _kept(tensor: Tensor) -> Tensor:
    """Return a copy that no later operation in place can change."""
    return tensor.detach().clone()


def _is_signal(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _without(kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in names}


def _weighted(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], kind: Kind, axes: int) -> Reading | None:
    """Read a map of (input, weight, bias, ...); the bias is followed by `axes` axes of the output."""
    inputs, weight, bias = (_argument(args, kwargs, *one) for one in enumerate(("input", "weight", "bias")))
    if weight.requires_grad or not _is_signal(inputs):
        return None
    rest, named = args[3:], _without(kwargs, "input", "weight", "bias")

    def apply(x: Tensor, w: Tensor | None) -> Tensor:
        found: Tensor = function(x, w, None, *rest, **named)
        return found

    bias = None if bias is None else bias.detach().reshape(-1, *[1] * axes)
    return Reading(LinearMap(kind, (Part(apply, _kept(inputs), weight.detach()),), bias), (inputs,))


def _convolution(axes: int, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    return _weighted(function, args, kwargs, "convolution", axes)


def _linear(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a linear map; at each of several places it is a convolution of one pixel."""
    dense = _argument(args, kwargs, 0, "input").ndim == 2
    return _weighted(function, args, kwargs, "dense" if dense else "convolution", 0)


def _matmul(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    inputs, weight = args[0], _argument(args, kwargs, 1, "other")
    if not _is_signal(inputs) or weight.requires_grad:
        return None
    kind: Kind = "dense" if inputs.ndim == 2 else "convolution"
    return Reading(LinearMap(kind, (Part(torch.matmul, _kept(inputs), weight.detach()),)), (inputs,))  # type: ignore[arg-type]


def _batch_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a BatchNorm with running statistics as a scale and a bias of each channel."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    if function is torch.batch_norm:
        names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    inputs, mean, variance = given["input"], given["running_mean"], given["running_var"]
    if not _is_signal(inputs) or mean is None or given.get("training"):
        return None
    weight, bias = given.get("weight"), given.get("bias")
    scale = (variance + given.get("eps", 1e-5)).rsqrt() * (1 if weight is None else weight)
    moved = -mean * scale + (0 if bias is None else bias)
    shape = (-1, *[1] * (inputs.ndim - 2))
    part = Part(_scaled, _kept(inputs), scale.detach().reshape(shape))
    return Reading(LinearMap("scale", (part,), moved.detach().reshape(shape)), (inputs,))


def _scaled(x: Tensor, w: Tensor | None) -> Tensor:
    assert w is not None
    return x * w


def _centred(inputs: Tensor, rows: tuple[int, ...], weight: Any, bias: Any, eps: float, affine: int) -> Reading:
    """Read (x - mean x) * w / sd + b as a map of x and of its mean, with sd held constant.

    Args:
        inputs: x.
        rows: shape in which the last axis is what mean and deviation are taken over.
        weight: w, or None.
        bias: b, or None.
        eps: added to the variance.
        affine: number of axes that follow the one of weight and bias.
    """
    shape = inputs.shape
    detached = inputs.detach()
    deviation = (detached.reshape(rows).var(-1, correction=0, keepdim=True) + eps).sqrt()
    spread = deviation.expand(rows).reshape(shape).reciprocal()
    if weight is not None:
        spread = spread * weight.detach().reshape(*weight.shape, *[1] * affine)

    def mean(x: Tensor, w: Tensor | None) -> Tensor:
        return _scaled(x.reshape(rows).mean(-1, keepdim=True).expand(rows).reshape(shape), w)

    kept = _kept(inputs)
    parts = (Part(_scaled, kept, spread), Part(mean, kept, -spread))
    moved = None if bias is None else bias.detach().reshape(*bias.shape, *[1] * affine)
    return Reading(LinearMap("normalisation", parts, moved), (inputs,))


def _layer_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    inputs, over = given["input"], tuple(given["normalized_shape"])
    if not _is_signal(inputs):
        return None
    rows = (*inputs.shape[: inputs.ndim - len(over)], math.prod(over))
    return _centred(inputs, rows, given.get("weight"), given.get("bias"), given.get("eps", 1e-5), 0)


def _group_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    given = dict(zip(("input", "num_groups", "weight", "bias", "eps"), args, strict=False)) | kwargs
    inputs = given["input"]
    if not _is_signal(inputs):
        return None
    rows = (inputs.shape[0], int(given["num_groups"]), inputs[0].numel() // int(given["num_groups"]))
    return _centred(inputs, rows, given.get("weight"), given.get("bias"), given.get("eps", 1e-5), inputs.ndim - 2)


def _pooled(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    inputs = _argument(args, kwargs, 0, "input")
    if not _is_signal(inputs):
        return None
    rest, named = args[1:], _without(kwargs, "input")

    def apply(x: Tensor, w: Tensor | None) -> Tensor:
        found: Tensor = function(x, *rest, **named)
        return found

    return Reading(LinearMap("pool", (Part(apply, _kept(inputs)),)), (inputs,))


def as_mean(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a max-pooling as the mean over its windows.

    Raises:
        BadInput: windows with gaps, or a call that asks for the places of the largest values.
    """
    name = function.__name__
    inputs = _argument(args, kwargs, 0, "input")
    if not _is_signal(inputs):
        return None
    names: tuple[str, ...] = ("output_size", "return_indices")
    if not name.startswith("adaptive"):
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args[1:], strict=False)) | _without(kwargs, "input")
    dilation = given.pop("dilation", 1)
    gaps = any(one != 1 for one in (dilation if isinstance(dilation, tuple | list) else (dilation,)))
    if gaps or given.pop("return_indices", False) or name.endswith("_with_indices"):
        raise BadInput(f"max_pool: expected windows without gaps and indices for mean, got {name}; choose winner")
    mean = getattr(F, name.replace("max", "avg"))

    def apply(x: Tensor, w: Tensor | None) -> Tensor:
        found: Tensor = mean(x, **given)
        return found

    return Reading(LinearMap("pool", (Part(apply, _kept(inputs)),)), (inputs,))


def _sum(signs: tuple[int, int], function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a sum or difference of two; what is no signal is a bias."""
    first, second = args[0], _argument(args, kwargs, 1, "other")
    factors = (signs[0], signs[1] * kwargs.get("alpha", 1))
    if not _is_signal(first) and not _is_signal(second):
        return None
    parts: list[Part] = []
    sources: list[Tensor] = []
    bias: Tensor | None = None
    for one, factor in zip((first, second), factors, strict=True):
        if _is_signal(one):
            kept = one.detach() * factor if factor != 1 else _kept(one)
            parts.append(Part(_itself, kept, source=len(sources)))
            sources.append(one)
        else:
            constant = one.detach() if isinstance(one, Tensor) else torch.tensor(float(one), device="cpu")
            bias = constant * factor
    like = sources[0]
    bias = None if bias is None else bias.to(device=like.device, dtype=like.dtype)
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
    **dict.fromkeys(MEANS | MEAN_POOLS | named("sum interpolate"), _pooled),
    **dict.fromkeys(named("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"), _pooled),
    **dict.fromkeys(PLUS, partial(_sum, (1, 1))),
    **dict.fromkeys(MINUS, partial(_sum, (1, -1))),
    **dict.fromkeys(REVERSED_MINUS, partial(_sum, (-1, 1))),
}
