"""Operations: how each call of a torch function treats relevance.

    linear map    convolution, linear, matmul with a weight, LayerNorm (standard deviation held constant), mean pooling,
                  interpolation, sums: a `LinearMap`, shared by a rule
                  written out, a LayerNorm is the same map (centring.py)
    constants     BatchNorm with running statistics, products, quotients and sums with constants, negation: a
                  `Rescaling`, folded into the map before it (folding.py), else a scale and a bias
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
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.rules import Kind, LinearMap, Part, wide
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
    QUOTIENTS,
    REVERSED_MINUS,
    Call,
    named,
)

CHOICES = MOVES | MAX_POOLS | LARGEST | named("max_unpool2d copy")
"""Calls whose own backward passes relevance on: they move, copy or select values."""
SPREADS = named("interpolate upsample")
"""Linear maps that bring values to more positions."""


@dataclass(frozen=True)
class Channels:
    """The output channels of a map with a weight.

    Args:
        axis: their axis in the output, counted from the end.
        across: lays out one number per channel (C,) to broadcast to the weight.
    """

    axis: int
    across: Callable[[Tensor], Tensor]

    def along(self, values: Tensor) -> Tensor:
        """Return one number per channel (C,), laid out to broadcast to the output."""
        return values.reshape(-1, *[1] * (-1 - self.axis))


@dataclass(frozen=True)
class Reading:
    """A call read as a linear map of some of its arguments.

    Args:
        step: the map.
        sources: the arguments.
        channels: output channels of a map with a weight; None if its weight is no vector per channel.
    """

    step: LinearMap
    sources: tuple[Tensor, ...]
    channels: Channels | None = None


@dataclass(frozen=True)
class Rescaling:
    """A call read as factor * source + shift with constants, both of which broadcast to the source.

    Args:
        kind: "scale", or "shift" if it is a sum.
        source: the argument.
        factor: constant factor.
        shift: constant shift; None is zero.
    """

    kind: Literal["scale", "shift"]
    source: Tensor
    factor: Tensor
    shift: Tensor | None = None

    def bound(self, limit: float) -> float:
        """Return what the outputs do not exceed if the source does not exceed `limit`."""
        if limit == math.inf:
            return limit
        return float(self.factor.abs().max() * limit + (0 if self.shift is None else self.shift.abs().max()))

    def step(self, inputs: Tensor) -> LinearMap:
        """Return the map for the values (n, ...) of its source."""
        factor = self.factor if self.shift is None else self.factor + torch.zeros_like(self.shift)
        return LinearMap(self.kind, (Part(scaled, inputs, factor),), self.shift)


def kept(tensor: Tensor) -> Tensor:
    """Return a copy that later in-place operations cannot change."""
    return tensor.detach().clone()


def is_signal(value: Any) -> bool:
    """Return whether a value is a tensor that relevance flows through."""
    return isinstance(value, Tensor) and value.requires_grad


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _without(kwargs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in names}


def _weighted(
    function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], kind: Kind, channels: Channels
) -> Reading | None:
    """Read a map of (input, weight, bias, ...)."""
    names = ("input", "weight", "bias")
    inputs, weight, bias = (_argument(args, kwargs, position, name) for position, name in enumerate(names))
    if weight.requires_grad or not is_signal(inputs):
        return None
    rest, named = args[3:], _without(kwargs, *names)
    part = Part(lambda x, w: function(x, w, None, *rest, **named), kept(inputs), weight.detach())
    bias = None if bias is None else channels.along(bias.detach())
    return Reading(LinearMap(kind, (part,), bias), (inputs,), channels if weight.ndim > 1 else None)


def _convolution(axes: int, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    channels = Channels(-1 - axes, lambda values: values.reshape(-1, *[1] * (axes + 1)))
    return _weighted(function, args, kwargs, "convolution", channels)


def _transposed(axes: int, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a transposed convolution, whose weight is (inputs, outputs of a group, ...) with groups of inputs."""
    groups, inputs = _argument(args, kwargs, 6, "groups", 1), _argument(args, kwargs, 1, "weight").shape[0]

    def across(values: Tensor) -> Tensor:
        by_group = values.reshape(groups, -1).repeat_interleave(inputs // groups, 0)
        return by_group.reshape(*by_group.shape, *[1] * axes)

    return _weighted(function, args, kwargs, "convolution", Channels(-1 - axes, across))


def _linear(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read a linear layer; applied at several positions it is a 1x1 convolution."""
    dense = _argument(args, kwargs, 0, "input").ndim <= 2
    return _weighted(
        function, args, kwargs, "dense" if dense else "convolution", Channels(-1, lambda values: values[:, None])
    )


def _matmul(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    inputs, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    if not is_signal(inputs) or weight.requires_grad:
        return None
    kind: Kind = "dense" if inputs.ndim <= 2 else "convolution"
    step = LinearMap(kind, (Part(torch.matmul, kept(inputs), weight.detach()),))  # type: ignore[arg-type]
    return Reading(step, (inputs,), Channels(-1, lambda values: values) if weight.ndim == 2 else None)


def _batch_norm(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rescaling | None:
    """Read a BatchNorm or InstanceNorm with running statistics."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    if function in (torch.batch_norm, torch.instance_norm):
        names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
    arguments = dict(zip(names, args, strict=False)) | kwargs
    inputs, mean, variance = arguments["input"], arguments["running_mean"], arguments["running_var"]
    measured = arguments.get("use_input_stats", arguments.get("training", function is F.instance_norm))
    if not is_signal(inputs) or mean is None or measured:
        return None
    weight, bias = arguments.get("weight"), arguments.get("bias")
    scale = (wide(variance) + arguments.get("eps", 1e-5)).rsqrt() * (1 if weight is None else weight)
    shift = -mean * scale + (0 if bias is None else bias)
    shape = (-1, *[1] * (inputs.ndim - 2))
    return Rescaling("scale", inputs, scale.detach().reshape(shape), shift.detach().reshape(shape))


def scaled(x: Tensor, w: Tensor | None) -> Tensor:
    """Return x * w, as the function of a `Part`."""
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
        return scaled(x.reshape(rows).mean(-1, keepdim=True).expand(rows).reshape(shape), w)

    values = kept(inputs)
    parts = (Part(scaled, values, scale), Part(mean, values, -scale))
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
    part = Part(lambda x, w: function(x, *rest, **named), kept(inputs))
    return Reading(LinearMap("pool", (part,)), (inputs,))


def _spread(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading | None:
    """Read an interpolation; a bicubic one has negative weights, which are those that the cells of a grid show."""
    inputs = _argument(args, kwargs, 0, "input")
    if _argument(args, kwargs, 3, "mode", "nearest") != "bicubic" or not is_signal(inputs):
        return _pooled(function, args, kwargs)
    rest, named = args[1:], _without(kwargs, "input")
    height, width = inputs.shape[2:]
    cells = torch.eye(height * width, dtype=inputs.dtype, device=inputs.device).reshape(-1, 1, height, width)
    spread = function(cells, *rest, **named).detach()
    size = tuple(spread.shape[2:])
    part = Part(
        lambda x, w: torch.matmul(x.flatten(2), w).reshape(*x.shape[:2], *size),  # type: ignore[arg-type]
        kept(inputs),
        spread.flatten(1),
    )
    return Reading(LinearMap("convolution", (part,)), (inputs,))


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
    part = Part(lambda x, w: mean(x, **options), kept(inputs))
    return Reading(LinearMap("pool", (part,)), (inputs,))


def _sum(
    signs: tuple[int, int], function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Reading | Rescaling | None:
    """Read the sum or difference of two values; a value that is not a signal is a constant."""
    terms = (_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other"))
    alpha = kwargs.get("alpha", 1)  # of the term that is subtracted by rsub, else of the second
    factors = (signs[0] * alpha, signs[1]) if signs[0] < 0 else (signs[0], signs[1] * alpha)
    sources = [term for term in terms if is_signal(term)]
    if len(sources) == 2:
        scaled = [
            term.detach() * factor if factor != 1 else kept(term) for term, factor in zip(terms, factors, strict=True)
        ]
        parts = tuple(Part(_itself, term, source=place) for place, term in enumerate(scaled))
        return Reading(LinearMap("sum", parts), tuple(sources))
    if not sources:
        return None
    own = 0 if is_signal(terms[0]) else 1
    factor, shift = (_constant(value, sources[0]) for value in (factors[own], terms[1 - own]))
    kind: Literal["scale", "shift"] = "shift" if abs(factors[own]) == 1 else "scale"
    return Rescaling(kind, sources[0], factor, shift * factors[1 - own])


def scaled_by_constant(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rescaling | None:
    """Read the product of a signal and a constant, or the quotient of a signal by a constant."""
    first, second = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other")
    if function in QUOTIENTS:
        readable = is_signal(first) and not is_signal(second) and kwargs.get("rounding_mode") is None
        return Rescaling("scale", first, _constant(second, first).reciprocal()) if readable else None
    if is_signal(first) == is_signal(second):
        return None
    source, constant = (first, second) if is_signal(first) else (second, first)
    return Rescaling("scale", source, _constant(constant, source))


def _negation(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rescaling | None:
    inputs = _argument(args, kwargs, 0, "input")
    return Rescaling("scale", inputs, _constant(-1, inputs)) if is_signal(inputs) else None


def _constant(value: Any, source: Tensor) -> Tensor:
    """Return a number or tensor as a constant for `source`, at least float32."""
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value), device="cpu")
    return tensor.to(source.device, torch.promote_types(source.dtype, torch.float32))


def _itself(x: Tensor, w: Tensor | None) -> Tensor:
    return x


Reader = Callable[[Call, tuple[Any, ...], dict[str, Any]], Reading | Rescaling | None]

LINEAR: dict[Call, Reader] = {
    **{conv: partial(_convolution, axes) for axes in (1, 2, 3) for conv in named(f"conv{axes}d")},
    **{conv: partial(_transposed, axes) for axes in (1, 2, 3) for conv in named(f"conv_transpose{axes}d")},
    **dict.fromkeys(LINEARS, _linear),
    **dict.fromkeys(named("matmul mm"), _matmul),
    **dict.fromkeys(BATCH_NORMS | named("instance_norm"), _batch_norm),
    **dict.fromkeys(named("neg negative"), _negation),
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    **dict.fromkeys(MEANS | MEAN_POOLS | named("sum"), _pooled),
    **dict.fromkeys(SPREADS, _spread),
    **dict.fromkeys(named("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"), _pooled),
    **dict.fromkeys(PLUS, partial(_sum, (1, 1))),
    **dict.fromkeys(MINUS, partial(_sum, (1, -1))),
    **dict.fromkeys(REVERSED_MINUS, partial(_sum, (-1, 1))),
}
