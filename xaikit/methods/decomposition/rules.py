"""Rules: how the relevance of an operation's output is shared among its inputs.

    z+ (alpha 1, beta 0)   R_j = sum_i x_j w_ij [x_j w_ij > 0] / z_i * R_i      z_i = sum_j x_j w_ij [x_j w_ij > 0]
    norm                   R_j = sum_i x_j w_ij / z_i * R_i                     parameter-free linear operations, sums
    pass                   R_j = R_j                                            activations, BatchNorm, LayerNorm

A share takes the relevance of the output (n, ...) and returns that of each input, of the input's shape. Biases take no
part, so what goes in comes out, but for outputs whose denominator is zero.

Source: Bach et al., PLoS ONE 2015; Montavon et al., Pattern Recognition 2017 (z+).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["Share", "norm", "proportional", "unchanged", "z_plus"]

Share = Callable[[Tensor], tuple[Tensor, ...]]
Linear = Callable[[Tensor, Tensor], Tensor]


def z_plus(operation: Linear, inputs: Tensor, weight: Tensor) -> Share:
    """Return the share of a linear operation by its positive contributions.

    Args:
        operation: (inputs, weight) -> output, without bias.
        inputs: what it was given.
        weight: its weight.
    """
    parts = [(inputs.clamp_min(0), weight.clamp_min(0))]
    if bool((inputs < 0).any()):
        parts.append((inputs.clamp_max(0), weight.clamp_max(0)))

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        total = sum(operation(part, signed) for part, signed in parts)
        messages = _divided(relevance, total)
        shares = [part * _transposed(partial(_weighted, operation, signed), part, messages) for part, signed in parts]
        return (torch.stack(shares).sum(0),)

    return share


def norm(operation: Callable[[Tensor], Tensor], inputs: Tensor) -> Share:
    """Return the share of a linear operation without weights, such as average pooling."""

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        return (inputs * _transposed(operation, inputs, _divided(relevance, operation(inputs))),)

    return share


def proportional(first: Tensor, second: Tensor) -> Share:
    """Return the share of a sum of two tensors, in proportion to what each gives."""

    def share(relevance: Tensor) -> tuple[Tensor, ...]:
        messages = _divided(relevance, first + second)
        return _summed(first * messages, first), _summed(second * messages, second)

    return share


def unchanged(relevance: Tensor) -> tuple[Tensor, ...]:
    """Return the relevance as it is."""
    return (relevance,)


def _weighted(operation: Linear, weight: Tensor, inputs: Tensor) -> Tensor:
    return operation(inputs, weight)


def _divided(relevance: Tensor, total: Any) -> Tensor:
    """Return relevance / total, zero where the total is too small to divide by."""
    tiny = torch.finfo(total.dtype).tiny
    usable = total.abs() > tiny
    return torch.where(usable, relevance / torch.where(usable, total, 1), 0)


def _transposed(operation: Callable[[Tensor], Tensor], inputs: Tensor, messages: Tensor) -> Tensor:
    """Return the operation's transpose applied to messages."""
    with torch.enable_grad():
        place = inputs.detach().requires_grad_(True)
        (found,) = torch.autograd.grad(operation(place), place, messages)
    return found


def _summed(share: Tensor, like: Tensor) -> Tensor:
    """Sum over axes along which `like` was broadcast."""
    return share.sum_to_size(like.shape)
