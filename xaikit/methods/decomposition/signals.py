"""Signals: which values carry relevance, read from the autograd graph of the forward.

    move        values are copied, moved or selected: a node of torch's own
    pointwise   each output is a function of one input (activations, products and sums with constants)
    gate        pointwise or softmax, and bounded
    joint       sums of two values, and products of two signals
    map         everything else: linear maps, unknown operations

The gate of a product is a constant to relevance; its other factor, the signal, gets all. Of two factors, the signal is

    1. the one that is closer to a value which both depend on: `x` in x * gate(x), whatever `gate` does
    2. the one that is not bounded: `a` in a * sigmoid(b); sums and products of gates are bounded, and so are clips,
       less than a gate unless their values, with all constants, lie within [-1, 1]: relu6(b + 3) / 6
    3. the one with more values, before they were spread over positions

and if nothing tells them apart, both are signals. Operations are followed through all moves, so it does not matter how
a gate is brought to the shape of its signal.

A constant (a parameter, a mask, a comparison, a border of zeros) has no gradient and gets no relevance; the gradient of
a weight that no module holds is cut off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_map

from xaikit.model.calls import Rule
from xaikit.model.graph import Graph
from xaikit.model.torch_functions import Call

Step = Literal["move", "pointwise", "gate", "joint", "map"]
Place = tuple[Any, int]
"""A value in the graph: its node and its index among the node's outputs."""
_ONE = 1.001
"""Limit of a clip that is a gate, with what rounding constants such as 0.1667 adds."""
_ATTRIBUTES = ("__get__", "__set__", "__delete__")
"""Calls that read or write an attribute of the tensor itself, such as `data`."""


def carries(node: Any) -> bool:
    """Return whether a node shares relevance by a rule; then it has `step`, `size`, `present`, `limit` and `values`."""
    return hasattr(node, "share")


def before(node: Any) -> list[Place]:
    """Return the values that a node reads; `copy_` does not read the values that it overwrites."""
    edges = node.next_functions[1:] if node.name().endswith("CopyBackwards") else node.next_functions
    return [place for place in edges if place[0] is not None]


def constants_cut(rule: Rule) -> Rule:
    """Return a rule for which tensors that have a gradient of their own, such as weights in a list, are constants."""

    def cut(value: Any) -> Any:
        return value.detach() if _has_own_gradient(value) else value

    def call(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if getattr(function, "__name__", "") not in _ATTRIBUTES:
            return rule(function, *tree_map(cut, (args, kwargs)))
        value = rule(function, args, kwargs)
        return value.detach() if _has_own_gradient(args[0]) and isinstance(value, Tensor) else value

    return call


def _has_own_gradient(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_leaf and value.requires_grad


def signals_of(first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
    """Return the factors of a product that get relevance: one if the other is its gate, else both."""
    distances = _distance(first, second), _distance(second, first)
    if distances[0] != distances[1]:
        return (first,) if distances[0] < distances[1] else (second,)
    boundedness = tuple(_boundedness(_limit(_place(factor))) for factor in (first, second))
    if boundedness[0] != boundedness[1]:
        return (first,) if boundedness[0] < boundedness[1] else (second,)
    sizes = (min(factor.numel(), _size(_place(factor))) for factor in (first, second))
    larger, smaller = next(sizes), next(sizes)
    if larger == smaller:
        return (first, second)
    return (first,) if larger > smaller else (second,)


def _place(tensor: Tensor) -> Place:
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def _step(node: Any) -> Step:
    step: Step = getattr(node, "step", "map" if isinstance(node, BackwardCFunction) else "move")
    return step


def _distance(factor: Tensor, other: Tensor) -> float:
    """Return the number of functions between a factor and the nearest value that the other factor depends on too.

    Only values of which the factor is a pointwise function count; infinity if the other depends on none of them.
    """
    trunk = dict(_trunk(factor))
    nearest = inf
    waiting, seen = [_place(other)], set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        if place in trunk:
            nearest = min(nearest, trunk[place])
        else:
            waiting += before(place[0])
    return nearest


def _trunk(factor: Tensor) -> Iterator[tuple[Place, int]]:
    """Yield the values of which a factor is a pointwise function, each with the number of functions between."""
    place, functions = _place(factor), 0
    while True:
        yield place, functions
        node = place[0]
        sources = before(node)
        if _step(node) in ("joint", "map") or len(sources) != 1:
            return
        functions += _step(node) != "move"
        place = sources[0]
        if carries(place[0]) and place[0].size != factor.numel():
            return


Bound = Callable[[float], float]
"""The limit of an operation's values for that of its signal."""


def clip_ends(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, float]:
    """Return the smallest and the largest value of a clip, which its largest and smallest input show."""
    named = {name: value for name, value in kwargs.items() if name != "input"}
    inputs = (args[0] if args else kwargs["input"]).detach()
    each = any(isinstance(value, Tensor) for value in (*args[1:], *named.values()))  # a limit for each value
    shaped, largest = inputs if each else inputs.new_empty(1), torch.finfo(inputs.dtype).max
    low, high = (function(torch.full_like(shaped, end), *args[1:], **named) for end in (-largest, largest))
    return float(low.min()), float(high.max())


def clip_bound(low: float, high: float, largest: float) -> Bound:
    """Return the bound of a clip from its smallest and its largest value.

    Args:
        low: smallest value.
        high: largest value.
        largest: value from which on there is no bound.
    """
    limit = max(abs(low), abs(high))
    return lambda _: limit if limit < largest else inf


def limit_of(step: Step, sources: Sequence[Tensor], bound: Bound | None = None) -> float:
    """Return what the values of an operation do not exceed: infinity for maps, and 0 for gates, also once scaled.

    Args:
        step: kind of the operation.
        sources: its signals.
        bound: the bound of a clip, or of constants; None keeps the limit.
    """
    if step in ("gate", "map"):
        return 0.0 if step == "gate" else inf
    limit = sum(_limit(_place(source)) for source in sources)
    limit = limit if bound is None else bound(limit)
    return 0.0 if limit <= _ONE else limit


def values_of(step: Step, sources: Sequence[Tensor]) -> float:
    """Return the number of values from which moves and functions of single values make those of an operation."""
    return inf if step == "map" else sum(_size(_place(source)) for source in sources)


def _limit(place: Place) -> float:
    """Return the limit of a value that moves made."""
    node = place[0]
    if carries(node):
        return float(node.limit)
    sources = [] if _step(node) == "map" else before(node)
    return max((_limit(source) for source in sources), default=inf)


def _boundedness(limit: float) -> int:
    """Return 0 for a value without bound, 1 for a bounded one, 2 for a gate."""
    return 0 if limit == inf else 1 if limit else 2


def _size(place: Place) -> float:
    """Return the number of values from which moves and functions of single values made a value."""
    node = place[0]
    if carries(node):
        return float(node.values)
    sources = [] if _step(node) == "map" else before(node)
    return sum(_size(source) for source in sources) if sources else inf


def present(signal: Tensor) -> Tensor | None:
    """Return 1 where an entry of a signal depends on the start and 0 where it is a constant; None is 1 everywhere.

    Moves are linear: what they make of ones at the values before them is found by differentiating their backward.
    """
    node = signal.grad_fn
    if _ends_moves(node):
        return getattr(node, "present", None)
    sources, constants = _sources(node)
    if not constants and all(getattr(source, "present", None) is None for source, _ in sources):
        return None
    with torch.enable_grad():
        ones = torch.ones_like(signal.detach()).requires_grad_(True)
        edges = [GradientEdge(*place) for place in sources]
        pulled = torch.autograd.grad(signal, edges, ones, create_graph=True)
        marks = [
            torch.ones_like(values) if (mark := getattr(source, "present", None)) is None else mark
            for values, (source, _) in zip(pulled, sources, strict=True)
        ]
        (found,) = torch.autograd.grad(pulled, ones, marks)
    inside = found != 0
    return None if bool(inside.all()) else inside.to(signal)


def _ends_moves(node: Any) -> bool:
    """Return whether a node is no move, or the start of the graph."""
    return node is None or carries(node) or isinstance(node, BackwardCFunction) or not before(node)


def _sources(node: Any) -> tuple[list[Place], bool]:
    """Return the values from which moves made the output of a node, and whether they may have added constants."""
    sources: list[Place] = []
    constants = False
    waiting, seen = [node], {node}
    while waiting:
        node = waiting.pop()
        constants |= any(source is None for source, _ in node.next_functions) or node.name().startswith("Im2Col")
        for place in before(node):
            if _ends_moves(place[0]):
                sources += [] if place in sources else [place]
            elif place[0] not in seen:
                seen.add(place[0])
                waiting.append(place[0])
    return sources, constants


class Path:
    """The nodes between the logits and the tensor at which relevance is read.

    Args:
        logits: logits with their graph.
        end: the tensor; None takes all nodes.
    """

    def __init__(self, logits: Tensor, end: Tensor | None = None) -> None:
        self._start = _place(logits)
        self._end = None if end is None else _place(end)
        users: dict[Any, list[Any]] = defaultdict(list)
        reached: set[Any] = set()
        waiting = [] if self._start == self._end else [self._start[0]]
        while waiting:
            node = waiting.pop()
            if node in reached:
                continue
            reached.add(node)
            for place in before(node):
                users[None if place == self._end else place[0]].append(node)
                waiting += [] if place == self._end else [place[0]]
        self.nodes = reached if end is None else _closure(users[None], users)
        self.leads_to_end = end is None or bool(self.nodes) or self._start == self._end

    def refuse_hidden(self, graph: Graph, logits: Tensor) -> None:
        """Raise BadInput for an operation on the path that is no function call, so that no rule acted on it."""
        graph.before(logits)
        own = (node for node in self.nodes if not carries(node))
        graph.refuse_hidden(own, "relevance", "use another method, or a layer after it")

    def bypasses(self) -> list[GradientEdge]:
        """Return the values that the nodes of the path read besides those of the path, or else the logits."""
        places = {self._start, *(place for node in self.nodes for place in before(node))}
        return [GradientEdge(*place) for place in places if place != self._end and place[0] not in self.nodes]


def united(marks: Sequence[Tensor | None]) -> Tensor | None:
    """Return 1 where one of several broadcasting values is present, or None where one of them is present everywhere."""
    found = [mark for mark in marks if mark is not None]
    return reduce(torch.maximum, found) if len(found) == len(marks) else None


def _closure(nodes: list[Any], users: dict[Any, list[Any]]) -> set[Any]:
    found: set[Any] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += users[node]
    return found
