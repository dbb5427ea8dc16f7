"""Attention: the weights with which tokens read each other, had from the functions that run.

    A = softmax(Q K^T * scale + mask),   O = A V

    fused          `F.scaled_dot_product_attention` runs as it is; A is computed a second time, from its arguments
    multi-head     `F.multi_head_attention_forward` is computed as the projections and the attention that it consists of
    written out    a softmax along the last axis, whose result is then, as it is, the first factor of a product
    missed         the first factor (T, S) of another product of two matrices of the image: perhaps weights that are
                   no plain softmax

Names of modules do not matter. By the chain rule, the gradient of a score with respect to A is that by O, times V^T.

Shapes: A (N, heads, T, S); V (N, heads, S, d); O (N, heads, T, d), for T tokens that read S tokens.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.model.hooks import Probe
from xaikit.model.torch_functions import DROPOUTS, Call, named

_FUSED = F.scaled_dot_product_attention
_HEADS = F.multi_head_attention_forward
_KEEPS = DROPOUTS | named("to type type_as float double half bfloat16 contiguous clone")
_PRODUCTS = named("matmul bmm")
_NOT_OPENED = ("bias_k", "bias_v", "add_zero_attn", "attn_mask", "key_padding_mask", "static_k", "static_v", "training")


@dataclass(frozen=True, eq=False)
class Attention:
    """One call of an attention.

    Args:
        weights: A (N, heads, T, S), detached; of another number of axes where the network has none for heads.
        values: V (N, heads, S, d), with its graph.
        output: O, with its graph.
        inside: names of the modules that were running, outermost first.
    """

    weights: Tensor
    values: Tensor
    output: Tensor
    inside: tuple[str, ...]

    def by_weights(self, gradient: Tensor) -> Tensor:
        """Return the gradient of a score by A, in A's shape, from its gradient by O."""
        return gradient @ self.values.detach().transpose(-2, -1).to(gradient)


class Attentions:
    """All attention of the forwards that run while a probe is active, in order.

    Args:
        probe: the probe, of which this takes the rules for attention, softmax and products of matrices.
    """

    def __init__(self, probe: Probe) -> None:
        self.calls: list[Attention] = []
        self.missed: set[tuple[int, ...]] = set()
        self._softmaxes: dict[int, tuple[Tensor, Tensor]] = {}  # kept alive, so that an id is one tensor
        self._running = probe.running()
        probe.open(_HEADS, opened)
        probe.rule([_FUSED], self._fused)
        probe.rule(named("softmax"), self._softmax)
        probe.rule(_KEEPS, self._kept)
        probe.rule(_PRODUCTS, self._product)
        probe.open(torch.einsum, einsum_opened)
        probe.rule([torch.einsum], self._einsum)

    def _fused(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        output: Tensor = function(*args, **kwargs)
        with torch.no_grad():
            weights, values = weights_of(*args, **kwargs)
        return self._seen(weights.nan_to_num(0), values, output)  # a token that may read none reads none

    def _softmax(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = function(*args, **kwargs)
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if axis in (-1, output.ndim - 1):
            self._softmaxes[id(output)] = output, output
        return output

    def _kept(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = function(*args, **kwargs)
        if args and id(args[0]) in self._softmaxes and isinstance(output, Tensor):
            self._softmaxes[id(output)] = output, self._softmaxes[id(args[0])][1]
        return output

    def _product(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = function(*args, **kwargs)
        if len(args) != 2 or kwargs:
            return output
        if id(args[0]) in self._softmaxes:
            return self._seen(self._softmaxes[id(args[0])][1].detach(), args[1], output)
        if args[0].shape[-1] != output.shape[-1] and all(factor.requires_grad for factor in args):
            self.missed.add(tuple(args[0].shape[-2:]))
        return output

    def _einsum(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) == 3 and any(id(factor) in self._softmaxes for factor in args[1:]):
            self.missed |= {tuple(factor.shape[-2:]) for factor in args[1:]}
        return function(*args, **kwargs)

    def _seen(self, weights: Tensor, values: Tensor, output: Tensor) -> Tensor:
        """Keep a call, and return the output for the network, which may overwrite it."""
        self.calls.append(Attention(weights, values, output, tuple(self._running)))
        return output.clone()


def weights_of(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return A (..., T, S) and V (..., S, d) of a call of the fused attention, whose arguments these are."""
    if enable_gqa:
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1), value


def written_out(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Compute the fused attention as its products and its softmax."""
    weights, value = weights_of(*args, **kwargs)
    return weights @ value


def einsum_opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Compute an einsum that is the product of two matrices, the second perhaps transposed, as such; else None."""
    if len(args) != 3:
        return None
    form = args[0].replace(" ", "")
    if re.fullmatch(r"(\w*)(\w)(\w),\1\3(\w)->\1\2\4", form):
        return torch.matmul(args[1], args[2])
    if re.fullmatch(r"(\w*)(\w)(\w),\1(\w)\3->\1\2\4", form):
        return torch.matmul(args[1], args[2].transpose(-2, -1))
    return None


def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute `F.multi_head_attention_forward` as its projections and its attention; None where it has a mask or more.

    Args:
        args: its arguments; queries (T, N, D), keys and values (S, N, D).
        kwargs: its named arguments.
    """
    call = inspect.signature(_HEADS).bind(*args, **kwargs)
    call.apply_defaults()
    given = call.arguments
    if given["query"].ndim != 3 or any(given[name] is not None and given[name] is not False for name in _NOT_OPENED):
        return None
    query, key, value = (
        torch.unflatten(projected, -1, (given["num_heads"], -1)).permute(1, 2, 0, 3) for projected in _projected(given)
    )
    shares = None
    if given["need_weights"]:
        shares = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(-1)
        mixed = shares @ value
        shares = shares.mean(1) if given["average_attn_weights"] else shares
    else:
        mixed = _FUSED(query, key, value)
    joined = mixed.permute(2, 0, 1, 3).flatten(2)
    return F.linear(joined, given["out_proj_weight"], given["out_proj_bias"]), shares


def _projected(given: dict[str, Any]) -> Sequence[Tensor]:
    """Return the projected queries, keys and values of a multi-head attention; those of one tensor by one map."""
    inputs, biases = [given[name] for name in ("query", "key", "value")], given["in_proj_bias"]
    if given["use_separate_proj_weight"]:
        weights = [given[name] for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight")]
    elif inputs[0] is inputs[1] is inputs[2]:
        return F.linear(inputs[0], given["in_proj_weight"], biases).chunk(3, -1)
    else:
        weights = given["in_proj_weight"].chunk(3)
    each = [None] * 3 if biases is None else biases.chunk(3)
    return [F.linear(x, weight, bias) for x, weight, bias in zip(inputs, weights, each, strict=True)]
