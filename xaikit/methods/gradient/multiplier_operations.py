"""The operations that have a rule for multipliers, made of the three of `multiplier_rules`.

    a / b        a * (1 / b)
    max-pooling  largest, by window; amax, maximum and max alike
    logsumexp    log(sum(exp(z))), each pair less its largest value
    softmax      exp(z - logsumexp(z))
    LayerNorm    (x - mean) * r with r = (mean((x - mean)^2) + eps)^(-1/2)

LayerNorm's deviation is held constant on the side that varies more, and what is left goes through the variance: exact,
and of the output's size even where the other side is nearly constant, as a blank baseline is.

Shapes: activations (m + u) * k first, as in `Pairing`.
Source: Shrikumar et al., ICML 2017, arXiv:1704.02685, for the chain rule of multipliers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.gradient.multiplier_rules import (
    Back,
    Call,
    Pairing,
    activations_in,
    carried,
    elementwise,
    largest,
    product,
    slope,
)
from xaikit.model.torch_functions import named

Rule = Callable[[Pairing, Call, tuple[Any, ...], dict[str, Any]], Any]


def _pooled(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Max-pooling to a fixed window or a fixed size."""
    name = function.__name__
    wanted = kwargs.get("return_indices", False) or name.endswith("_with_indices")
    values, *rest = args
    telling = getattr(F, name.removesuffix("_with_indices"))
    pooled, places = telling(values.detach(), *rest, **(kwargs | {"return_indices": True}))
    found = largest(pairing, values.flatten(2), pooled.flatten(2), places.flatten(2)).view_as(pooled)
    return (found, places) if wanted else found


def _amax(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def over(values: Tensor, dim: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
        axes = sorted(axis % values.ndim for axis in ([dim] if isinstance(dim, int) else dim))
        if not axes or 0 in axes:
            raise BadInput("multipliers: expected the largest value of each image, got one of all; give amax its dim")
        kept = [axis for axis in range(values.ndim) if axis not in axes]
        sides = [values.shape[axis] for axis in kept]
        rows = values.permute(*kept, *axes).reshape(len(values), math.prod(sides[1:]), -1)
        found = largest(pairing, rows, *rows.detach().max(2, keepdim=True)).reshape(sides)
        for axis in axes if keepdim else ():
            found = found.unsqueeze(axis)
        return found

    return over(*args, **kwargs)


def _max(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The larger of two tensors, or the largest along an axis with its place."""
    pair = [one for one in (*args, kwargs.get("other")) if isinstance(one, Tensor)]
    if len(pair) == 2:
        shape = (pair[0].detach() + pair[1].detach()).shape
        return _amax(pairing, torch.amax, (torch.stack([one.expand(shape) for one in pair], -1), -1), {})
    found = _amax(pairing, torch.amax, args, kwargs)
    return torch.return_types.max((found, args[0].detach().max(*args[1:], **kwargs).indices))


def _quotient(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    above, below = reversed(args[:2]) if "rdiv" in function.__name__ else args[:2]
    if not activations_in(below):
        return function(*args, **kwargs)
    inverse = elementwise(pairing, torch.reciprocal, (below,), {})
    return _multiplied(pairing, above, inverse)


def _multiplied(pairing: Pairing, first: Any, second: Tensor) -> Tensor:
    found: Tensor = product(pairing, torch.mul, (second, first), {})
    return found


def _softmax(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def over(values: Tensor, dim: int, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        logits = values if dtype is None else values.to(dtype)
        logarithms = logits - _logsumexp(pairing, torch.logsumexp, (logits, dim, True), {})
        if "log" in function.__name__:
            return logarithms
        return elementwise(pairing, torch.exp, (logarithms,), {})

    return over(*args, **kwargs)


def _logsumexp(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """log(sum(exp)) as these three, each pair less its largest value, so that no power overflows."""

    def over(values: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
        def run(inputs: Tensor) -> tuple[Tensor, Back]:
            pair = pairing.split(inputs)
            shift = torch.maximum(*pair).amax(dim, keepdim=True)
            shifted = [one - shift for one in pair]
            powers = [one.exp() for one in shifted]
            sums = [one.sum(dim, keepdim=True) for one in powers]
            logarithms = [one.logsumexp(dim, keepdim=True) for one in shifted]
            share = slope(torch.exp, *shifted, *powers) * slope(torch.log, *sums, *logarithms)
            output = inputs.logsumexp(dim, keepdim=True)
            return output, lambda coming: (pairing.whole(pairing.first(coming) * share),)

        found = carried(run, values)
        return found if keepdim else found.squeeze(dim)

    return over(*args, **kwargs)


def _batch_norm(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.get("training") or any(one is True for one in args):
        raise BadInput(
            "multipliers: expected BatchNorm with running statistics, got one that normalises by the batch; "
            "use integrated-gradients"
        )
    return function(*args, **kwargs)


def _layer_norm(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def over(
        values: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        return _scaled(_standardised(pairing, values, len(normalized_shape), eps), weight, bias)

    return over(*args, **kwargs)


def _group_norm(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def over(
        values: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        groups = values.reshape(len(values), num_groups, -1)
        shape = (-1, *[1] * (values.ndim - 2))
        found = _standardised(pairing, groups, 1, eps).reshape(values.shape)
        return _scaled(found, *(None if one is None else one.reshape(shape) for one in (weight, bias)))

    return over(*args, **kwargs)


def _standardised(pairing: Pairing, values: Tensor, axes: int, eps: float) -> Tensor:
    """Return values less their mean over the last axes, divided by their deviation."""
    last = tuple(range(-axes, 0))
    centred = values - values.mean(last, keepdim=True)
    variance = elementwise(pairing, torch.square, (centred,), {}).mean(last, keepdim=True)
    inverse = elementwise(pairing, torch.rsqrt, (variance + eps,), {})
    return _divided_by_deviation(pairing, centred, inverse)


def _divided_by_deviation(pairing: Pairing, centred: Tensor, inverse: Tensor) -> Tensor:
    """Return u * r for centred values u and the inverse r of their deviation.

    u * r - u' * r' is split with the deviation of the side that varies more held constant: with r <= r' into
    (u - u') * r and u' * (r - r'). Both stay of the output's size even where the other side hardly varies.
    """

    def run(centred: Tensor, inverse: Tensor) -> tuple[Tensor, Back]:
        u, other_u = pairing.split(centred)
        r, other_r = pairing.split(inverse)
        held, rest = torch.minimum(r, other_r), torch.where(r <= other_r, other_u, u)

        def back(coming: Tensor) -> tuple[Tensor, ...]:
            multipliers = pairing.first(coming)
            shares = multipliers * held, (multipliers * rest).sum_to_size(held.shape)
            return tuple(pairing.whole(share) for share in shares)

        return centred * inverse, back

    return carried(run, centred, inverse)


def _scaled(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    values = values if weight is None else values * weight
    return values if bias is None else values + bias


RULES: tuple[tuple[frozenset[Call], Rule], ...] = (
    (
        named(
            "relu relu6 leaky_relu prelu rrelu elu selu celu silu gelu mish softplus softsign threshold hardtanh "
            "hardswish hardsigmoid sigmoid expit logsigmoid tanh tanhshrink softshrink hardshrink clamp clip clamp_min "
            "clamp_max exp exp2 expm1 log log2 log10 log1p logit sqrt rsqrt square reciprocal abs absolute pow rpow "
            "erf sin cos"
        ),
        elementwise,
    ),
    (
        named(
            "mul multiply matmul rmatmul mm bmm mv einsum linear addmm baddbmm "
            "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
        ),
        product,
    ),
    (
        named("max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"),
        _pooled,
    ),
    (named("amax"), _amax),
    (named("maximum max"), _max),
    (named("div divide true_divide rdiv"), _quotient),
    (named("softmax log_softmax"), _softmax),
    (named("logsumexp"), _logsumexp),
    (named("batch_norm"), _batch_norm),
    (named("layer_norm"), _layer_norm),
    (named("group_norm"), _group_norm),
)
