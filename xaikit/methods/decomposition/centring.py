"""Normalisations: h - mean(h), divided by a statistic of h, is one map of h, however it is written.

    (h - mean h) / sd * w + b        sd is held constant; parts h w / sd and -mean(h) w / sd, bias b

A network that writes a LayerNorm out subtracts a mean, divides by a value that is constant along the axes of that mean,
and applies constants; or it divides both by it. The difference then shares relevance by the rule of normalisations, as
`layer_norm` does, with the divisor and the constants folded into it (folding.py). A difference that no such divisor
follows is an ordinary sum.

Whether a summand is the mean of the other is decided by their values, so it does not matter how the mean is computed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xaikit.methods.decomposition.folding import Fold, Foldable
from xaikit.methods.decomposition.operations import Reading, scaled
from xaikit.methods.decomposition.rules import LinearMap, Part, wide

_ROUNDING_STEPS = 64


class Centred(Foldable):
    """A normalisation, or a difference that becomes one when a gate is folded into it.

    Args:
        step: the map, of all its sources.
        joint: the map of the first source alone.
        axes: axes of the mean of a difference; none for a normalisation that torch computes.
        after: what the first source is computed by.
    """

    def __init__(self, step: LinearMap, joint: LinearMap, axes: tuple[int, ...] = (), after: Any = None) -> None:
        super().__init__(step, rescales=True)
        self._joint = joint
        self._axes = axes
        record = getattr(after, "record", None)
        gate = record.gate if isinstance(record, Fold) else None
        self.ready = not axes or (gate is not None and self.takes_gate(gate.expand_as(joint.parts[0].inputs)))

    def fitting(self, values: Tensor, size: torch.Size) -> Tensor | None:
        """Return the constants as they are."""
        return values

    def takes_gate(self, values: Tensor) -> bool:
        """Return whether a gate is constant along the axes of the mean."""
        return bool(self._axes) and all(bool((values == values.narrow(axis, 0, 1)).all()) for axis in self._axes)

    @property
    def step(self) -> LinearMap:
        """The map with what was folded into it; that of all sources if it is no normalisation."""
        if not self.ready:
            return self._step
        if self._factor is None:
            return self._joint
        factor = self._factor
        parts = tuple(
            replace(part, weight=None if part.weight is None else wide(part.weight) * factor)
            for part in self._joint.parts
        )
        bias = None if self._joint.bias is None else wide(self._joint.bias) * factor
        if self._shift is not None:
            bias = self._shift if bias is None else bias + self._shift
        return replace(self._joint, parts=parts, bias=bias)


class Difference(NamedTuple):
    """A sum read as a difference of values and their mean.

    Args:
        reading: the sum, with the values first.
        joint: the map of the values alone.
        axes: axes of the mean.
    """

    reading: Reading
    joint: LinearMap
    axes: tuple[int, ...]


def difference(reading: Reading) -> Difference | None:
    """Return a sum read as a difference of values and their mean; None if it is another sum."""
    for own in (0, 1):
        values, mean = reading.step.parts[own], reading.step.parts[1 - own]
        axes = _axes(values.inputs, mean.inputs, reading.sources[1 - own])
        if not axes:
            continue
        values, mean = replace(values, source=0), replace(mean, source=1)
        joint = LinearMap("normalisation", (_itself(values), _minus_mean(values, axes)))
        ordered = replace(reading.step, parts=(values, mean))
        sources = (reading.sources[own], reading.sources[1 - own])
        return Difference(replace(reading, step=ordered, sources=sources), joint, axes)
    return None


def _axes(values: Tensor, mean: Tensor, source: Tensor) -> tuple[int, ...]:
    """Return the axes along which `mean` is minus the mean of `values`; none if it is not.

    Args:
        values: first summand.
        mean: other summand.
        source: the same in the network, whose strides show how it was spread.
    """
    if mean.ndim > values.ndim or any(
        size not in (1, full) for size, full in zip(mean.shape[::-1], values.shape[::-1], strict=False)
    ):
        return ()
    mean, strides = mean.expand_as(values), source.detach().expand_as(values).stride()
    several = [axis for axis in range(values.ndim) if values.shape[axis] > 1]
    axes = [axis for axis in several if strides[axis] == 0] or [
        axis for axis in several[1:] if torch.equal(mean.narrow(axis, 0, 1), mean.narrow(axis, -1, 1))
    ]
    if not axes:
        return ()
    error = (values.mean(axes, keepdim=True) + mean).abs().max()
    rounding = _ROUNDING_STEPS * torch.finfo(source.dtype).eps * values.abs().max()
    return tuple(axes) if bool(error <= rounding) else ()


def _itself(part: Part) -> Part:
    return replace(part, apply=scaled, weight=part.inputs.new_ones(()))


def _minus_mean(part: Part, axes: tuple[int, ...]) -> Part:
    def mean(x: Tensor, w: Tensor | None) -> Tensor:
        return scaled(x.mean(axes, keepdim=True).expand_as(x), w)

    return replace(part, apply=mean, weight=-part.inputs.new_ones(()))
