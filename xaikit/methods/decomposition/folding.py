"""Folding: constant factors and shifts per channel become part of the map before them.

    s (f(x, w) + b) + t = f(x, s w) + (s b + t)

A BatchNorm with running statistics is such a pair (s, t), in whatever form it is written; so are products and sums with
constants. The rules then see the map that the network computes, and the constants pass relevance on unchanged.

This is decided on the autograd graph of each forward: `Fold.of` follows it from the constants to the maps before them,
and `settle` counts, once the logits are known, how often each value on the way is used. A pair is folded if

    only moves lie between      each output of the maps reaches exactly one place (flatten, transpose, cat, clone)
    it is per channel           s and t do not vary within an output channel of a map
    it is no gate               s and t do not depend on the image, as a detached gate does
    nothing else uses them      neither the outputs of the maps nor the values on the way lead to the logits elsewhere

A normalisation written out (centring.py) takes such pairs too, and the gate by which it divides, at each value.

Outputs of a map that are used as they are and negated, as in CReLU, are those of two maps, one of them negated. So is a
map before min(x, 0), which is -relu(-x).

Any other pair is a scale and a bias of its own. Pairs that follow each other immediately are one pair: x * s + t is the
same as a BatchNorm, and (x - m) * s + t too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from xaikit.methods.decomposition.operations import Reading, Rescaling
from xaikit.methods.decomposition.order import Record
from xaikit.methods.decomposition.rules import LinearMap, wide
from xaikit.methods.decomposition.signals import before, carries

_COPIES = ("CopyBackwards", "CloneBackward0")
"""Nodes that operations in place add."""


class Foldable(Record, ABC):
    """A map into which constants are folded, kept at its node of the graph.

    Args:
        step: the map, without what is folded into it.
        is_map: as in `Record`.
        rescales: as in `Record`.
    """

    def __init__(self, step: LinearMap, *, is_map: bool = False, rescales: bool = False) -> None:
        super().__init__(is_map=is_map, rescales=rescales)
        self.ready = True
        self._step = step
        self._factor: Tensor | None = None
        self._shift: Tensor | None = None

    @abstractmethod
    def fitting(self, values: Tensor, size: torch.Size) -> Tensor | None:
        """Return constants that broadcast to the outputs in the form in which they are folded, or None.

        Args:
            values: constants at the outputs of the map.
            size: shape of the outputs.
        """

    def takes_gate(self, values: Tensor) -> bool:
        """Return whether a gate with these values, which broadcast to the outputs, is folded too."""
        return False

    @property
    @abstractmethod
    def step(self) -> LinearMap:
        """The map with what was folded into it."""

    def rescale(self, factor: Tensor, shift: Tensor | None) -> None:
        """Fold a factor and a shift, as `fitting` returned them, applied after those folded before."""
        self._factor = factor if self._factor is None else self._factor * factor
        self._shift = None if self._shift is None else self._shift * factor
        if shift is not None:
            self._shift = shift if self._shift is None else self._shift + shift


class Weighted(Foldable):
    """A map with a weight, which takes constants per output channel (C,).

    Args:
        reading: the call.
    """

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.step, is_map=True)
        self.channels = reading.channels
        self._taken: list[tuple[Tensor, Tensor]] = []

    def fitting(self, values: Tensor, size: torch.Size) -> Tensor | None:
        """Return the constants (C,), or None if they differ within a channel."""
        if self.channels is None:
            return None
        rows = values.movedim(self.channels.axis, 0).flatten(1)
        return rows[:, 0].expand(size[self.channels.axis]) if bool((rows == rows[:, :1]).all()) else None

    @property
    def step(self) -> LinearMap:
        """The map with what was folded into it."""
        step = self._scaled(self._step, self._factor)
        if self._shift is None or self.channels is None:
            return step
        shift = self.channels.along(self._shift)
        return replace(step, bias=shift if step.bias is None else step.bias + shift)

    def take(self, factor: Tensor, relevance: Tensor) -> None:
        """Keep the relevance of the outputs times a factor (C,), which reached them by a use of its own."""
        self._taken.append((factor, relevance))

    def taken(self) -> list[tuple[LinearMap, Tensor]]:
        """Return, and forget, what was kept: each relevance with the map whose outputs it belongs to."""
        kept, self._taken = self._taken, []
        return [(self._scaled(self.step, factor), relevance) for factor, relevance in kept]

    def _scaled(self, step: LinearMap, factor: Tensor | None) -> LinearMap:
        if factor is None or self.channels is None:
            return step
        (part,) = step.parts
        assert part.weight is not None
        bias = None if step.bias is None else wide(step.bias) * self.channels.along(factor)
        weight = wide(part.weight) * self.channels.across(factor)
        return replace(step, parts=(replace(part, weight=weight),), bias=bias)


class Fold(Record):
    """Constants and the maps that they follow.

    Args:
        nodes: nodes of the graph from the input of the constants back to the maps, both included.
        shares: each map with the factor and the shift of its outputs; none if the constants are not folded.
        gate: the factor, if it depends on the image.
    """

    def __init__(
        self, nodes: list[Any], shares: list[tuple[Foldable, Tensor, Tensor | None]], gate: Tensor | None = None
    ) -> None:
        super().__init__(rescales=True)
        self.gate = gate
        self.refused = not shares
        self.joined = False
        self.before: Tensor | None = None
        self.total: Tensor | None = None
        self.kind: Literal["scale", "shift"] = "shift"
        self._factor: Tensor | None = None
        self._sources: list[Any] = []
        self._nodes = nodes
        self._shares = shares

    def follow(self, reading: Rescaling) -> None:
        """Take the constants, which join those immediately before them once both are refused; see `settle`."""
        self.kind, self.total, self._factor = reading.kind, reading.shift, reading.factor
        self._sources = [reading.source.grad_fn]  # the source itself would keep its values in memory
        while self._sources[-1] is not None and self._sources[-1].name().endswith(_COPIES):
            self._sources.append(before(self._sources[-1])[0][0])  # constants written in place

    @property
    def shifts(self) -> bool:
        """Whether these constants, or those immediately before them, have a shift."""
        inner = self._inner()
        return self.total is not None or (inner is not None and inner.shifts)

    def _inner(self) -> Fold | None:
        """Return the constants immediately before these."""
        record = getattr(self._sources[-1], "record", None) if self._sources else None
        return record if isinstance(record, Fold) else None

    def step(self, inputs: Tensor) -> LinearMap:
        """Return the map of these constants and those joined to them, for the values of the source."""
        assert self._factor is not None
        inputs = inputs if self.before is None else inputs - self.before
        return Rescaling(self.kind, inputs, self._factor, self.total).step(inputs)

    @classmethod
    def of(cls, reading: Rescaling, *, gate: bool = False) -> Fold:
        """Return the fold of constants, or of a gate, into the maps before them, refused if others lie between."""
        source, factor, shift = reading.source, reading.factor, reading.shift
        dependent = factor if gate else None
        refused = cls([], [], dependent)
        nodes, maps = _maps_before(source.grad_fn)
        if not maps or not _broadcasts(factor if shift is None else factor + shift, source):
            return refused
        records = [node.record for node in maps]
        factors = _at_outputs(source, maps, factor)
        shifts = [None] * len(maps) if shift is None else _at_outputs(source, maps, shift)
        if factors is None or shifts is None:
            return refused
        if gate:
            gates = [getattr(getattr(node, "record", None), "gate", None) for node in nodes]
            if any(value is not None for value in gates) or not all(
                record.takes_gate(values) for record, values in zip(records, factors, strict=True)
            ):
                return refused
        return cls(nodes, list(zip(records, factors, shifts, strict=True)), dependent)

    @property
    def direct(self) -> bool:
        """Whether the constants follow one map immediately."""
        return len(self._nodes) == 1

    def part(self) -> tuple[Weighted, Tensor] | None:
        """Return the map that these constants negate, with their factor (C,), if its outputs have other uses too.

        The outputs and their negative, as CReLU takes them, are the outputs of two maps.
        """
        if not self.refused or self.gate is not None or self.total is not None or len(self._shares) != 1:
            return None
        ((record, factor, _),) = self._shares
        if not isinstance(record, Weighted) or bool((factor >= 0).any()):
            return None
        return (record, factor) if all(_keeps_places(node) for node in self._nodes[:-1]) else None

    def outputs(self) -> Tensor:
        """Return the outputs of the map that the constants follow immediately."""
        ((record, _, _),) = self._shares
        return record.step.outputs()

    def check_uses(self, uses: Counter[Any]) -> None:
        """Refuse if anything else uses the values before the constants; a gate makes a centring a normalisation.

        Args:
            uses: number of uses of each node.
        """
        self.refused |= any(uses[node] > 1 for node in self._nodes)
        for record, _, _ in () if self.gate is None or self.refused else self._shares:
            record.ready = True

    def settle(self, uses: Counter[Any]) -> None:
        """Fold the constants unless they are refused.

        Args:
            uses: number of uses of each node.
        """
        self.refused |= not all(record.ready for record, _, _ in self._shares)
        for record, factor, shift in () if self.refused else self._shares:
            record.rescale(factor, shift)
        inner = self._inner()
        if self.refused and inner is not None and inner.refused and all(uses[node] == 1 for node in self._sources):
            self._join(inner)

    def _join(self, inner: Fold) -> None:
        """Take over the constants immediately before these."""
        inner.joined = True
        self.kind = "scale" if "scale" in (self.kind, inner.kind) else "shift"
        self.before = inner.total
        if inner.total is not None and self._factor is not None:
            shift = inner.total * self._factor
            self.total = shift if self.total is None else self.total + shift


def settle(logits: Tensor) -> None:
    """Decide, once the logits of a forward are known, which constants are folded."""
    waiting = [logits.grad_fn]
    uses: Counter[Any] = Counter(waiting)
    while waiting:
        for node, _ in before(waiting.pop()):
            if not uses[node]:
                waiting.append(node)
            uses[node] += 1
    records = [getattr(node, "record", None) for node in reversed(uses)]  # constants after those that they follow
    folds = [record for record in records if isinstance(record, Fold)]
    for fold in folds:
        fold.check_uses(uses)
    for fold in folds:
        fold.settle(uses)


def _broadcasts(constant: Tensor, source: Tensor) -> bool:
    """Return whether a constant broadcasts to the shape of the source."""
    sizes = zip(reversed(constant.shape), reversed(source.shape), strict=False)
    return constant.ndim <= source.ndim and all(size in (1, expected) for size, expected in sizes)


def _keeps_places(node: Any) -> bool:
    """Return whether a node is a copy, or constants that are folded, whose values lie where those of the map do."""
    record = getattr(node, "record", None)
    return node.name().endswith(_COPIES) or (isinstance(record, Fold) and not record.refused)


def _maps_before(node: Any) -> tuple[list[Any], list[Any]]:
    """Return the nodes from `node` back to the nearest maps, and the maps; nothing if other operations lie between."""
    nodes: list[Any] = []
    maps: list[Any] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in nodes:
            return [], []
        nodes.append(node)
        record = getattr(node, "record", None)
        if isinstance(record, Foldable) and (not isinstance(record, Weighted) or record.channels is not None):
            maps.append(node)
            continue
        moves = not carries(node) or (isinstance(record, Fold) and not record.refused)
        sources = before(node) if moves else []
        if not sources:
            return [], []
        waiting += [source for source, _ in sources]
    return nodes, maps


def _at_outputs(source: Tensor, maps: Sequence[Any], value: Tensor) -> list[Tensor] | None:
    """Return the values at the outputs of each map, in the form in which it takes them, or None if it does not.

    Args:
        source: the tensor that the constants are applied to.
        maps: nodes of the maps.
        value: constant that broadcasts to `source`.
    """
    values: tuple[Tensor, ...]
    value = value.reshape(*[1] * (source.ndim - value.ndim), *value.shape)
    if maps[0] is source.grad_fn:
        values, sizes = (value,), [source.shape]
    else:
        edges = [GradientEdge(node, 0) for node in maps]
        counts, values = (
            torch.autograd.grad(source, edges, one.to(source).expand_as(source), retain_graph=True)
            for one in (torch.ones_like(value), value)
        )
        if any(bool((count != 1).any()) for count in counts):
            return None
        sizes = [pulled.shape for pulled in values]
    results = [node.record.fitting(pulled, size) for node, pulled, size in zip(maps, values, sizes, strict=True)]
    return None if any(result is None for result in results) else results
