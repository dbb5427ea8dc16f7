"""Sliced weights: a large linear map of a few images as 16 small ones, which the cores share.

    W x + b     =  [W_1 x + b_1; ...; W_16 x + b_16]        W_i: K / 16 rows
    W^T g       =  [V_1^T g; ...; V_16^T g]                 V_i: C / 16 columns

With few rows x a linear map takes as long as reading its weights does (392 MiB in VGG-16's first), and MKL hardly
divides that among cores: with two it takes about as long as with one. Slices in one batched product are divided. Each
number is still one sum over the same C or K numbers. No weight is copied. Narrow maps are left alone: their slices
would be slower than the whole, and a row's place could change its bits.

Shapes: x (N, C), W (K, C), b (K,), g (N, K).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from xaikit.core.linear_maps import LinearMaps, is_plain

__all__ = ["SlicedWeights", "sliced_weights"]

_SLICES = 16
_LARGE = 2**22  # weights from which on the cores' own caches do not hold them
_WIDE = 1024  # inputs and outputs from which on slices are wide enough
_FEW, _MANY = 4, 128  # rows; with fewer the backward pass is slower in slices, with more the arithmetic takes longest


def sliced_weights(network: nn.Module) -> AbstractContextManager[object]:
    """Return a `with` block in which the network's large linear maps run in slices; one that does nothing if none is.

    Args:
        network: on any device; its parameters tell.
    """
    usable = torch.backends.mkl.is_available() and torch.get_num_threads() > 1  # type: ignore[no-untyped-call]
    found = usable and any(is_plain(one) and _is_large(one) for one in network.parameters())
    return SlicedWeights() if found else nullcontext()


class SlicedWeights(LinearMaps):
    """Runs large linear maps of a few images in slices for the time of a `with` block."""

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch's own name
        """Return W x + b (N, K)."""
        if (
            _is_large(weight)
            and input.shape[1:] == weight.shape[1:]
            and (bias is None or bias.shape == weight.shape[:1])
            and _FEW <= len(input) <= _MANY
            and all(one is None or one.dtype == torch.float32 for one in (input, weight, bias))
            and not torch.is_autocast_enabled("cpu")
            and not _is_transformed()
            and not (torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (weight, bias)))
        ):
            return _Sliced.apply(input, weight, bias)  # type: ignore[no-any-return]
        return F.linear(input, weight, bias)


def _is_large(weight: Tensor) -> bool:
    return (
        weight.ndim == 2
        and weight.numel() >= _LARGE
        and min(weight.shape) >= _WIDE
        and not any(length % _SLICES for length in weight.shape)
        and weight.is_contiguous()
    )


def _is_transformed() -> bool:
    """Return whether torch maps or differentiates forward what runs (vmap, jvp); it has no public way to ask."""
    return torch._C._are_functorch_transforms_active() or getattr(forward_ad, "_current_level", -1) >= 0


class _Sliced(torch.autograd.Function):
    """A linear map whose weights need no gradient."""

    @staticmethod
    def forward(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        slices = weight.view(_SLICES, -1, weight.shape[1]).transpose(1, 2)
        given = rows.contiguous().expand(_SLICES, *rows.shape)
        if bias is None:
            return _joined(torch.bmm(given, slices))
        return _joined(torch.baddbmm(bias.reshape(_SLICES, 1, -1), given, slices))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        slices = weight.view(len(weight), _SLICES, -1).transpose(0, 1)
        return _joined(torch.bmm(gradient.contiguous().expand(_SLICES, *gradient.shape), slices)), None, None


def _joined(parts: Tensor) -> Tensor:
    """Return rows (N, L) of the parts (16, N, L / 16) of each."""
    return parts.transpose(0, 1).reshape(parts.shape[1], -1)
