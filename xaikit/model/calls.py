"""Calls: intercepts every call of a torch function while a network runs, except those nested inside another.

rules       a named function is computed by a rule, any other perhaps by `otherwise`
opened      a named function is computed by calls that are intercepted in their turn
awaited     the ReLU of a tensor fills a tap
graph       operations are recorded that no call shows
observer    is told of each call
around      computes each call by the above
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from xaikit.model.graph import Graph
from xaikit.model.torch_functions import RELUS, overwrites, writes

if TYPE_CHECKING:
    from xaikit.model.hooks import Tap

Rule = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
Opened = Callable[[tuple[Any, ...], dict[str, Any]], Any]
OnFunction = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], None]
Around = Callable[[Rule, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class Calls(TorchFunctionMode):
    """Intercepts every torch function call, except those nested inside another."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = False
        self._paused = False
        self.rules: dict[Callable[..., Any], Rule] = {}
        self.opened: dict[Callable[..., Any], Opened] = {}
        self.graph: Graph | None = None
        self.awaited: list[tuple[Tensor, Tap, int | None]] = []
        self.otherwise: Rule | None = None
        self.observer: OnFunction | None = None
        self.around: Around | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.autograd.backward and kwargs.get("inputs") is None:
            return self._backward(*args, **kwargs)
        if func is torch.autograd.grad or self._paused:
            return func(*args, **kwargs)
        if func in self.opened:
            with self:
                result = self.opened[func](args, kwargs)
            if result is not None:
                return result
        return self._seen(func, args, kwargs) if self.around is None else self.around(self._seen, func, args, kwargs)

    def takes_calls(self) -> bool:
        """Return whether calls still come here."""
        seen: list[Any] = []
        before, self.around = self.around, lambda compute, function, args, kwargs: seen.append(function)
        torch.empty(0, device="cpu")
        self.around = before
        return bool(seen)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let every call within this block through as it is."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _seen(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.graph is None:
            return self._computed(func, args, kwargs)
        self.graph.before((args, kwargs))
        result = self._computed(func, args, kwargs)
        self.graph.after((result, args[:1]))
        return result

    def _computed(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.awaited and func in RELUS:
            argument = args[0] if args else kwargs.get("input")
            for index, (output, tap, seen) in enumerate(self.awaited):
                if argument is output and seen in (None, version(output)):
                    result = tap.fill_copy(torch.relu(output))
                    if overwrites(func, args, kwargs):
                        del self.awaited[index]
                        return output.copy_(result)
                    self.awaited[index] = output, tap, version(output)  # another ReLU may read it as well
                    return result
        if func in self.rules:
            result = self._ruled(self.rules[func], func, args, kwargs)
        else:
            result = func(*args, **kwargs) if self.otherwise is None else self.otherwise(func, args, kwargs)
        if self.observer is not None:
            self.observer(func, args, kwargs, result)
        return result

    def _backward(self, tensors: Sequence[Tensor], **kwargs: Any) -> None:
        """Run a backward with this mode on, so that rules act on what a checkpoint computes again.

        Gradient edges in place of tensors keep the call from being intercepted a second time.
        """
        with self:
            torch.autograd.backward([get_gradient_edge(tensor) for tensor in tensors], **kwargs)

    def _ruled(self, rule: Rule, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply a rule; for an in-place function also write the result into its first argument."""
        if not (args and writes(func)):
            return rule(func, args, kwargs)
        return args[0].copy_(rule(func, (args[0].clone(), *args[1:]), kwargs))


def version(tensor: Tensor) -> int:
    """Return how often a tensor was written in place, 0 if torch does not count it."""
    return 0 if tensor.is_inference() else tensor._version
