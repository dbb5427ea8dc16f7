"""Paths: the tensors that every path from the image to the outputs goes through.

    t is common    no edge of the autograd graph leads from an operation before t to one after t

The graph of one forward is read from the outputs back to the image. Operations are numbered so that each comes after
its inputs; a path that avoids t would need an edge that jumps over its number. Names of functions and modules do not
matter, and branches that do not lead to the outputs are not in the graph.

A tensor is known by its edge, the operation that computed it and the number among that operation's outputs. An
operation in place makes a new edge, so an edge identifies a value, not a piece of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node
from torch.overrides import TorchFunctionMode

Edge: TypeAlias = tuple[Node, int]


@dataclass(frozen=True)
class Paths:
    """The operations between the image and the outputs.

    Args:
        position: number of each operation that lies on a path; inputs have smaller numbers.
        inputs: operations that each operation takes a value from.
        common: edges that every path goes through, from the image to the outputs.
    """

    position: dict[Node, int]
    inputs: dict[Node, list[Node]]
    common: list[Edge]

    def is_direct(self, first: Edge, last: Edge, stops: Set[Edge], products: Set[Edge]) -> bool:
        """Return whether one common tensor is computed from another without an operation of `stops`, or custom code.

        One factor of a product is enough: the others are gates.
        """
        stopped, multiplied = ({node for node, _ in edges} for edges in (stops, products))
        direct = {first[0]: True}
        for node, place in self.position.items():
            if self.position[first[0]] < place <= self.position[last[0]]:
                each = (direct.get(source, False) for source in self.inputs[node])
                through = any(each) if node in multiplied else all(each)
                direct[node] = through and node not in stopped and not is_custom(node)
        return direct.get(last[0], False)


def edge_of(tensor: Tensor) -> Edge | None:
    """Return the edge of a tensor, or None if no operation with a graph computed it."""
    return None if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)


def gradients_at(edges: Sequence[Edge], outputs: Tensor, weights: Tensor) -> list[Tensor | None]:
    """Return the gradient of outputs (1, K) times weights (K,) at each edge; None if autograd has none."""
    if not edges:
        return []
    given = weights.to(outputs).expand_as(outputs)
    places = [GradientEdge(*edge) for edge in edges]
    return list(torch.autograd.grad(outputs, places, given, retain_graph=True, allow_unused=True))


def is_custom(operation: object) -> bool:
    """Return whether an operation's backward is Python code (`autograd.Function`, a checkpoint)."""
    return isinstance(operation, BackwardCFunction)


def paths(start: Edge | None, end: Edge | None) -> Paths:
    """Return the paths from the edge of the image to that of the outputs, none if either has no graph."""
    if start is None or end is None:
        return Paths({}, {}, [])
    position: dict[Node, int] = {}
    inputs: dict[Node, list[Edge]] = {}
    for node in _inputs_first(end[0]):
        before = [(source, number) for source, number in node.next_functions if source in position]
        if before or node is start[0]:
            position[node] = len(position)
            inputs[node] = before
    if end[0] not in position:
        return Paths({}, {}, [])
    used: dict[Node, set[int]] = {node: set() for node in position}
    reach = dict.fromkeys(position, 0)
    used[end[0]].add(end[1])
    for node, before in inputs.items():
        for source, number in before:
            used[source].add(number)
            reach[source] = max(reach[source], position[node])
    common: list[Edge] = []
    furthest = 0
    for node, place in position.items():
        if furthest <= place and len(used[node]) == 1:
            common.append((node, next(iter(used[node]))))
        furthest = max(furthest, reach[node])
    return Paths(position, {node: [source for source, _ in before] for node, before in inputs.items()}, common)


class WithGraph(TorchFunctionMode):
    """Computes every call with a graph, also where the network's code turns gradients off."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch.enable_grad():
            return func(*args, **(kwargs or {}))


def _inputs_first(end: Node) -> Iterator[Node]:
    """Yield all operations that lead to `end`, each after its inputs."""
    seen = {end}
    stack = [(end, iter(end.next_functions))]
    while stack:
        node, inputs = stack[-1]
        for source, _ in inputs:
            if source is not None and source not in seen:
                seen.add(source)
                stack.append((source, iter(source.next_functions)))
                break
        else:
            stack.pop()
            yield node
