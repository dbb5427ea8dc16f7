"""Severed values: numbers that depend on the image but have no graph, and come back as a summand.

    h * g(h).detach()     a gate is a constant for relevance, with a graph or without: nothing is lost
    h + f(h).detach()     the summand depends on the image, but relevance takes it for a bias: the map is flagged

Values are severed by `detach`, `data`, functions under `torch.no_grad`, comparisons, and conversions to integers; masks
and indices only select, unless they are added or made floats. Values that leave torch cannot be followed: arrays count
as summands, and a number does if a Python float is added to a signal later on; a number that only decides what is
computed is no summand.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from xaikit.model.calls import Rule
from xaikit.model.torch_functions import (
    BLANKS,
    CONVOLUTIONS,
    LINEARS,
    MINUS,
    PLUS,
    PRODUCTS,
    QUOTIENTS,
    REVERSED_MINUS,
    Call,
    named,
    writes,
)

_FACTORS = PRODUCTS | QUOTIENTS | LINEARS | CONVOLUTIONS | named("matmul mm bmm")
"""Calls in which a severed value is a gate or a weight."""
_ARRAYS = named("tolist numpy array dlpack")
_NUMBERS = named("item int float")
_SUMS = PLUS | MINUS | REVERSED_MINUS


class Severed:
    """The severed values of one forward, kept alive until its end, so that an `id` identifies one tensor."""

    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}
        self._users: list[Any] = []
        self._left = self._numbers = False

    def watched(self, rule: Rule) -> Rule:
        """Return the rule, which also records the severed values that its calls take and make."""

        def call(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            arguments = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            severed = [tensor for tensor in arguments if not tensor.requires_grad and id(tensor) in self._tensors]
            depends = bool(severed) or any(tensor.requires_grad and not tensor.is_leaf for tensor in arguments)
            output = rule(function, args, kwargs)
            if not depends or function in BLANKS:
                return output
            self._left |= function in _ARRAYS or (
                self._numbers and function in _SUMS and any(isinstance(value, float) for value in args)
            )
            self._numbers |= function in _NUMBERS and not isinstance(output, Tensor)
            in_place = writes(function) or getattr(function, "__name__", "") == "__setitem__"
            summands = function not in _FACTORS and any(_is_number(tensor) or function in _SUMS for tensor in severed)
            for value in (*tree_leaves(output), *(args[:1] if in_place else ())):
                if not isinstance(value, Tensor):
                    continue
                if value.requires_grad:
                    self._users += [value.grad_fn] if summands else []
                else:
                    self._tensors[id(value)] = value
            return output

        return call

    def among(self, values: Any) -> bool:
        """Return whether there is a severed value in a tree of arguments."""
        return any(id(leaf) in self._tensors for leaf in tree_leaves(values))

    def is_summand(self, nodes: set[Any]) -> bool:
        """Return whether a severed value is a summand in one of the nodes that the logits depend on, and forget all."""
        found = self._left or any(node in nodes for node in self._users)
        self.forget()
        return found

    def forget(self) -> None:
        """Forget what was recorded so far."""
        self._tensors.clear()
        self._users.clear()
        self._left = self._numbers = False


def _is_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
