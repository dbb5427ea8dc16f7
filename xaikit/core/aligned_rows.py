"""Aligned rows: a linear map gives an image the same bits wherever the image stands in a batch.

    W x + b  =  the first K of  [W 0; 0 0] [x; 0] + [b; 0]        rows of C and K numbers, filled with zeros to 32 bytes

A matrix product may sum a row in another order if it does not begin at a multiple of 16 bytes: MKL does so on CPUs
without AVX-512, where the second row of 5 features is then a rounding away from the first. In filled rows every row
begins alike. The backward pass multiplies rows of K numbers, so these are filled as well.

Left alone is what only looks like a linear map of numbers (a traced, sparse, nested or quantised one), and what hooks
on saved tensors watch: a checkpoint computes it again outside the block and would find other shapes. A linear map
inside another operator, as in `F.multi_head_attention_forward`, is not seen.

Shapes: x (..., C), W (K, C), b (K,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["AlignedRows", "aligned"]

_ROW = 32  # bytes; 16 would do, 32 are a vector of AVX2
_START = 64  # bytes, as torch allocates


class AlignedRows(TorchFunctionMode):
    """Runs linear maps on a CPU in filled rows for the time of a `with` block."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a call; see `TorchFunctionMode`."""
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def aligned(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy of it if its memory does not begin at a multiple of 64 bytes."""
    return tensor.clone() if _is_plain(tensor) and tensor.data_ptr() % _START else tensor


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is what it seems, numbers in memory: no proxy, no subclass with rules of its own."""
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _is_watched() -> bool:
    """Return whether hooks on saved tensors are set; torch has no public way to ask."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is not None and top(True) is not None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002 - torch's own name
    if not (_is_plain(input) and _is_plain(weight)) or weight.ndim != 2 or _is_watched():
        return F.linear(input, weight, bias)
    outputs, inputs = weight.shape
    more_inputs, more_outputs = (-count % (_ROW // weight.element_size()) for count in (inputs, outputs))
    if not (more_inputs or more_outputs):
        return F.linear(input, weight, bias)
    bias = None if bias is None else F.pad(bias, (0, more_outputs))
    weight = F.pad(weight, (0, more_inputs, 0, more_outputs))
    return F.linear(F.pad(input, (0, more_inputs)), weight, bias)[..., :outputs].contiguous()
