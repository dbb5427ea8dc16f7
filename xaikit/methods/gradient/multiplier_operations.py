"""Multiplier rules of all supported operations, composed of the three rules in `multiplier_rules`.

    a / b        a * (1 / b), also written out: with a * r for an inverse r, see below
    max-pooling  largest, per window; likewise amax, maximum and max
    logsumexp    log(sum(exp(z))), with the largest value of each pair subtracted first
    softmax      exp(z - logsumexp(z))
    x * (x > 0)  a product with a mask of two values by size is a function of one activation
    LayerNorm    (x - mean) * r with r = (mean((x - mean)^2) + eps)^(-1/2)

The product with an inverse r (1 / b, rsqrt, a negative power) holds r constant on the side where it is smaller, which
varies more, and propagates the rest through r. This is exact, and the terms keep the size of the output even if the
other side is nearly constant, such as a blank baseline. A normalisation has one map, however it is written.

Shapes: first axis of activations (m + u) * k, as in `Pairing`.
Source: Shrikumar et al., ICML 2017, arXiv:1704.02685, for the chain rule of multipliers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from xaikit.foundation.errors import BadInput
from xaikit.methods.gradient.multiplier_rules import (
    Back,
    Call,
    Pairing,
    activations_in,
    carried,
    differs,
    elementwise,
    is_inverse,
    largest,
    product,
    slope,
)
from xaikit.model.ends import log_probabilities
from xaikit.model.torch_functions import named, writes

Rule = Callable[[Pairing, Call, tuple[Any, ...], dict[str, Any]], Any]


def _pooled(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Max-pooling with a fixed window or to a fixed output size."""
    name = function.__name__
    return_indices = kwargs.get("return_indices", False) or name.endswith("_with_indices")
    values, *rest = args
    pool = getattr(F, name.removesuffix("_with_indices"))
    pooled, indices = pool(values.detach(), *rest, **(kwargs | {"return_indices": True}))
    output = largest(pairing, values.flatten(2), pooled.flatten(2), indices.flatten(2)).view_as(pooled)
    return (output, indices) if return_indices else output


def _amax(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def apply(values: Tensor, dim: int | Sequence[int] = (), keepdim: bool = False) -> Tensor:
        axes = sorted(axis % values.ndim for axis in ([dim] if isinstance(dim, int) else dim))
        if not axes or 0 in axes:
            raise BadInput(
                "multipliers: expected the largest value of each image, got the largest of the batch; pass dim to amax"
            )
        kept = [axis for axis in range(values.ndim) if axis not in axes]
        sides = [values.shape[axis] for axis in kept]
        rows = values.permute(*kept, *axes).reshape(len(values), math.prod(sides[1:]), -1)
        output = largest(pairing, rows, *rows.detach().max(2, keepdim=True)).reshape(sides)
        for axis in axes if keepdim else ():
            output = output.unsqueeze(axis)
        return output

    return apply(*args, **kwargs)


def _max(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The larger of two tensors, or the largest values along an axis with their indices."""
    pair = [value for value in (*args, kwargs.get("other")) if isinstance(value, Tensor)]
    if len(pair) == 2:
        shape = (pair[0].detach() + pair[1].detach()).shape
        return _amax(pairing, torch.amax, (torch.stack([values.expand(shape) for values in pair], -1), -1), {})
    output = _amax(pairing, torch.amax, args, kwargs)
    return torch.return_types.max((output, args[0].detach().max(*args[1:], **kwargs).indices))


def _quotient(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    numerator, denominator = reversed(args[:2]) if "rdiv" in function.__name__ else args[:2]
    if not activations_in(denominator):
        return function(*args, **kwargs)
    inverse = elementwise(pairing, torch.reciprocal, (denominator,), {})
    if not activations_in(numerator):
        return product(pairing, torch.mul, (inverse, numerator), {})
    return _times_inverse(pairing, numerator, inverse)


def _product(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The product of two activations, one of which may be an inverse."""
    factors = activations_in((args, kwargs))
    inverses = [factor for factor in factors if is_inverse(factor)]
    if len(factors) == 1:
        rectify = _rectifier(pairing, factors[0], args, kwargs)
        if rectify is not None:
            output = elementwise(pairing, rectify, (factors[0],), {})
            return args[0].copy_(output) if writes(function) else output
    if len(factors) != 2 or len(inverses) != 1:
        return product(pairing, function, args, kwargs)
    (other,) = (factor for factor in factors if factor is not inverses[0])
    output = _times_inverse(pairing, other, inverses[0])
    return args[0].copy_(output) if writes(function) else output


def _rectifier(
    pairing: Pairing, activation: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[Tensor], Tensor] | None:
    """Return the rectifier that an activation times a mask of two values is, such as x * (x > 0); None for others."""
    constants = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf is not activation]
    if len(constants) != 1 or constants[0].shape != activation.shape or not differs(pairing, constants[0]):
        return None
    x, mask = activation.detach(), constants[0].detach().to(activation.dtype)
    low, high = mask.min(), mask.max()
    upper = mask == high
    if not bool((upper | (mask == low)).all()):
        return None
    for above, below, outside in ((upper, low, high), (~upper, high, low)):
        limit = x[~above].max()
        if bool(limit < x[above].min()):
            return lambda values, limit=limit, below=below, outside=outside: (
                values
                * torch.where(  # type: ignore[misc]
                    values > limit, outside, below
                )
            )
    return None


def _softmax(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def apply(values: Tensor, dim: int, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        logits = values if dtype is None else values.to(dtype)
        logarithms = logits - _logsumexp(pairing, torch.logsumexp, (logits, dim, True), {})
        if "log" in function.__name__:
            return logarithms
        return elementwise(pairing, torch.exp, (logarithms,), {})

    return apply(*args, **kwargs)


def _log_probabilities(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return _softmax(pairing, torch.log_softmax, (*args, 1), kwargs)


def _logsumexp(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """log(sum(exp)), with the largest value of each pair subtracted so that exp does not overflow."""

    def apply(values: Tensor, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
        def run(inputs: Tensor) -> tuple[Tensor, Back]:
            pair = pairing.split(inputs)
            shift = torch.maximum(*pair).amax(dim, keepdim=True)
            shifted = [logits - shift for logits in pair]
            powers = [logits.exp() for logits in shifted]
            sums = [power.sum(dim, keepdim=True) for power in powers]
            logarithms = [logits.logsumexp(dim, keepdim=True) for logits in shifted]
            ratio = slope(torch.exp, *shifted, *powers) * slope(torch.log, *sums, *logarithms)
            output = inputs.logsumexp(dim, keepdim=True)
            return output, lambda multipliers: (pairing.whole(pairing.first(multipliers) * ratio),)

        output = carried(run, values)
        return output if keepdim else output.squeeze(dim)

    return apply(*args, **kwargs)


def _batch_norm(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.get("training") or any(value is True for value in args):
        raise BadInput(
            "multipliers: expected BatchNorm with running statistics, got batch statistics; use integrated-gradients"
        )
    return function(*args, **kwargs)


def _layer_norm(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def apply(
        values: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        return _scaled(_standardised(pairing, values, len(normalized_shape), eps), weight, bias)

    return apply(*args, **kwargs)


def _group_norm(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    def apply(
        values: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
    ) -> Tensor:
        groups = values.reshape(len(values), num_groups, -1)
        shape = (-1, *[1] * (values.ndim - 2))
        output = _standardised(pairing, groups, 1, eps).reshape(values.shape)
        return _scaled(output, *(None if tensor is None else tensor.reshape(shape) for tensor in (weight, bias)))

    return apply(*args, **kwargs)


def _standardised(pairing: Pairing, values: Tensor, axes: int, eps: float) -> Tensor:
    """Return values minus their mean over the last axes, divided by their standard deviation."""
    last = tuple(range(-axes, 0))
    centred = values - values.mean(last, keepdim=True)
    variance = elementwise(pairing, torch.square, (centred,), {}).mean(last, keepdim=True)
    return _times_inverse(pairing, centred, elementwise(pairing, torch.rsqrt, (variance + eps,), {}))


def _times_inverse(pairing: Pairing, values: Tensor, inverse: Tensor) -> Tensor:
    """Return u * r for values u and the inverse r of others, such as their standard deviation.

    The difference u * r - u' * r' is split with the smaller |r| held constant: for |r| <= |r'| into (u - u') * r and
    u' * (r - r'). Both terms keep the size of the output even if the other side hardly varies.
    """

    def run(values: Tensor, inverse: Tensor) -> tuple[Tensor, Back]:
        u, other_u = pairing.split(values)
        r, other_r = pairing.split(inverse)
        own = r.abs() <= other_r.abs()
        smaller_r, matching_u = torch.where(own, r, other_r), torch.where(own, other_u, u)

        def back(multipliers: Tensor) -> tuple[Tensor, ...]:
            first = pairing.first(multipliers)
            shares = ((first * smaller_r).sum_to_size(u.shape), (first * matching_u).sum_to_size(r.shape))
            return tuple(pairing.whole(share) for share in shares)

        return values * inverse, back

    return carried(run, values, inverse)


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
            "matmul rmatmul mm bmm mv einsum linear addmm baddbmm "
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
    (named("mul multiply"), _product),
    (named("div divide true_divide rdiv"), _quotient),
    (named("softmax log_softmax"), _softmax),
    (frozenset({log_probabilities}), _log_probabilities),
    (named("logsumexp"), _logsumexp),
    (named("batch_norm"), _batch_norm),
    (named("layer_norm"), _layer_norm),
    (named("group_norm"), _group_norm),
)
