"""Linear maps: what both ways of running them in another way share.

A subclass says how a plain linear map is computed. Left alone is what only looks like a linear map of numbers (a
traced, sparse, nested or quantised one), what is being compiled, and what hooks on saved tensors watch: a checkpoint
computes it again outside the block and would find other tensors. A linear map inside another operator, as in
`F.multi_head_attention_forward`, is not seen.

Shapes: x (..., C), W (K, C), b (K,).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["LinearMaps", "is_plain"]


class LinearMaps(TorchFunctionMode):
    """Runs plain linear maps on a CPU in a subclass's way for the time of a `with` block."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a call; see `TorchFunctionMode`."""
        if func is F.linear and not _is_recorded():
            return self._any(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    @abstractmethod
    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch's own name
        """Return W x + b of plain tensors and a matrix W; `F.linear` itself is at hand."""

    def _any(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
        plain = all(one is None or is_plain(one) for one in (input, weight, bias))
        if plain and weight.ndim == 2 and not _is_watched():
            return self.linear(input, weight, bias)
        return F.linear(input, weight, bias)


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is what it seems, numbers in memory: no proxy, no subclass with rules of its own."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_nested:
        return False
    return tensor.layout == torch.strided and tensor.device.type == "cpu"


def _is_recorded() -> bool:
    """Return whether torch writes down what runs: calls to run later, not numbers."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _is_watched() -> bool:
    """Return whether hooks on saved tensors are set; torch has no public way to ask."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is not None and top(True) is not None
