"""Folded weights: BatchNorm multiplied into the convolution before it, for as long as the weights are what they were.

    (s w) * x + (s (b - mean) + beta)        s = gamma / sqrt(var + eps)

A copy can grow stale, also behind torch's back (`weight.data.mul_(2)`, a NumPy view). So each use proves it anew: the
vectors of the BatchNorms must be equal, and the products of every 4,096 neighbouring weights with one random vector,
which reads all weights once, a fraction of what the norms would take. Else everything is folded again.

A convolution is folded if it runs once in a forward, shares its weight with no other, and nobody has hooked it or its
norm. In a batch too small to repay the proof nothing is. The copy is also laid out as oneDNN wants it for such a batch,
which a convolution otherwise does at each call; its operator with a ReLU inside is not used: it turns NaN into 0.

Shapes: w (K, ...); b, mean, var, gamma, beta and s (K,).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

__all__ = ["Folded", "fold"]

_ROW = 4096
_RANDOM = torch.rand(_ROW, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu") + 0.5


class FoldedConvolution:
    """What a convolution computes with so that its output is already normalised.

    Args:
        weight: s w.
        bias: s (b - mean) + beta.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight
        self._bias = bias
        self._packed: bool | None = None
        self._kind: tuple[object, ...] = ()

    def __call__(
        self, function: Callable[..., Tensor], inputs: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> Tensor:
        """Return what `function`, a convolution, gives with these weights."""
        if self._packed is None:
            self._packed = _can_be_packed(self._weight, padding)
        if not self._packed:
            return function(inputs, self._weight, self._bias, stride, padding, dilation, groups)
        shape = (padding, stride, dilation, groups)
        self._lay_out(inputs, shape)
        convolve = torch.ops.mkldnn._convolution_pointwise
        output: Tensor = convolve(inputs, self._weight, self._bias, *shape, "none", [], None)
        return output

    def _lay_out(self, inputs: Tensor, shape: tuple[Any, ...]) -> None:
        """Lay the weights out for such inputs; in the layout for one image several take up to ten times as long."""
        kind = (len(inputs) == 1, *inputs.shape[2:])
        if kind != self._kind:
            dense = self._weight.to_dense() if self._weight.is_mkldnn else self._weight
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(dense, *shape, list(inputs.shape))
            self._kind = kind


class Folded(NamedTuple):
    """A folded convolution, and the norm whose work it does as well."""

    convolution: FoldedConvolution
    norm: nn.Module


class _Pair(NamedTuple):
    convolution: nn.modules.conv._ConvNd
    norm: nn.modules.batchnorm._BatchNorm


class _Copy(NamedTuple):
    """Folded convolutions and what they were made of."""

    names: list[str]
    vectors: Tensor
    products: Tensor
    convolutions: list[FoldedConvolution]


_COPIES: WeakKeyDictionary[nn.Module, _Copy] = WeakKeyDictionary()


def fold(network: nn.Module, norms: Mapping[str, Sequence[str]], calls: Mapping[str, int]) -> dict[int, Folded]:
    """Return what to run convolutions with, by the `id` of their weights.

    Args:
        network: in eval mode, on a CPU.
        norms: names of BatchNorms that alone read a convolution's output, and of the modules that give it out.
        calls: how often each module runs in a forward.
    """
    pairs = _pairs(network, norms, calls)
    if not pairs:
        return {}
    vectors, products = _proof(list(pairs.values()))
    copy = _COPIES.get(network)
    if (
        copy is None
        or copy.names != list(pairs)
        or not torch.equal(copy.vectors, vectors)
        or not torch.equal(copy.products, products)
    ):
        copy = _Copy(list(pairs), vectors, products, [_multiplied(pair) for pair in pairs.values()])
        _COPIES[network] = copy
    return {
        id(pair.convolution.weight): Folded(convolution, pair.norm)
        for pair, convolution in zip(pairs.values(), copy.convolutions, strict=True)
    }


def _pairs(network: nn.Module, norms: Mapping[str, Sequence[str]], calls: Mapping[str, int]) -> dict[str, _Pair]:
    """Return the convolutions that can be folded and their norms, by the norm's name."""
    modules = dict(network.named_modules())
    convolutions = [one for one in modules.values() if isinstance(one, nn.modules.conv._ConvNd)]
    shared = Counter(id(one.weight) for one in convolutions)
    found = {}
    for name, makers in norms.items():
        norm = modules.get(name)
        made = [(place, modules.get(place)) for place in makers]
        convolution = next(((place, one) for place, one in made if isinstance(one, nn.modules.conv._ConvNd)), None)
        if convolution is None or not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        place, one = convolution
        if (
            calls.get(place) == 1
            and shared[id(one.weight)] == 1
            and not any(module is None or module._forward_hooks for _, module in made)
            and not (norm.training or norm._forward_pre_hooks or norm._forward_hooks)
            and all(part is not None and part.dtype == one.weight.dtype for part in _vectors(norm))
        ):
            found[name] = _Pair(one, norm)
    return found


def _vectors(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor | None, ...]:
    return norm.running_mean, norm.running_var, norm.weight, norm.bias


def _proof(pairs: list[_Pair]) -> tuple[Tensor, Tensor]:
    """Return all vectors as one, and the products of all weights with the random vector."""
    vectors = [
        one.detach() for pair in pairs for one in (*_vectors(pair.norm), pair.convolution.bias) if one is not None
    ]
    vectors.append(torch.tensor([pair.norm.eps for pair in pairs], dtype=vectors[0].dtype, device="cpu"))
    random = _RANDOM.to(vectors[0].dtype)
    products = []
    for pair in pairs:
        weights = _in_memory_order(pair.convolution.weight.detach())
        whole = weights.numel() // _ROW * _ROW
        products += [weights[:whole].view(-1, _ROW) @ random, weights[whole:] @ random[: weights.numel() - whole]]
    return torch.cat(vectors), torch.cat([one.reshape(-1) for one in products])


def _in_memory_order(weights: Tensor) -> Tensor:
    if weights.ndim == 4 and weights.is_contiguous(memory_format=torch.channels_last):
        return weights.permute(0, 2, 3, 1).reshape(-1)
    return weights.reshape(-1)


def _multiplied(pair: _Pair) -> FoldedConvolution:
    weight, given = pair.convolution.weight.detach(), pair.convolution.bias
    mean, variance, gamma, beta = (one.detach() for one in _vectors(pair.norm) if one is not None)
    scale = gamma / torch.sqrt(variance + pair.norm.eps)
    shift = -mean if given is None else given.detach() - mean
    return FoldedConvolution(weight * scale.view(-1, *[1] * (weight.ndim - 1)), torch.addcmul(beta, scale, shift))


def _can_be_packed(weight: Tensor, padding: Any) -> bool:
    """Say whether oneDNN computes this convolution and takes weights in its own layout."""
    engine = torch.backends.mkldnn
    return (
        weight.ndim == 4
        and weight.dtype == torch.float32
        and not isinstance(padding, str)
        and bool(engine.is_available())  # type: ignore[no-untyped-call]
        and bool(engine.enabled)
        and all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_convolution_weight", "_convolution_pointwise"))
    )
