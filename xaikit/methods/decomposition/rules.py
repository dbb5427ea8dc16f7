"""Rules: how the relevance of a linear map's outputs is shared among its inputs.

Every rule shares among parts p that are linear in their input:

    z = sum_p f_p(x_p, w_p) + b      R_j = sum_p x_p (*) f_p^T(w_p, R / stab(z))      stab(z) = z + sign(z) e mean|z|

    rule         parts of f(x, w)                                          bias
    0            (x, w), e = 0                                             b
    epsilon      (x, w)                                                    b
    z-plus       (x+, w+) (x-, w-)                                         b+
    alpha-beta   alpha: as z-plus;  -beta: (x+, w-) (x-, w+)               b+; b-        beta = alpha - 1
    gamma        z > 0: (x+, w + g w+) (x-, w + g w-);  z < 0: w+, w- changed    b + g b+; b + g b-
    z-box        (x, w) (low, -w+) (high, -w-)                             -
    w-squared    (1, w^2)                                                  -
    flat         (1, 1)                                                    -

The mean is over the map's outputs for one image, so that images do not influence each other; e is 1e-6, and 1e-9 where
all parts have one sign.

Shapes: relevance has the shape of the map's output; the returned shares have the shapes of its sources.
Source: Bach et al., PLoS ONE 2015; Montavon et al., Pattern Recognition 2017 (z-plus, z-box, w-squared); Montavon et
    al., Explainable AI 2019 (gamma); Lapuschkin et al., Nature Communications 2019 (flat).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal, overload

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.methods.decomposition.ledger import Ledger

EPSILON = 1e-6
ONE_SIGN = 1e-9  # parts of one sign cannot cancel, so a smaller stabiliser is enough

Kind = Literal["convolution", "dense", "normalisation", "scale", "shift", "pool", "sum", "product"]


@dataclass(frozen=True)
class Part:
    """One summand f(x, w) of a linear map.

    Args:
        apply: f, linear in x and in w.
        inputs: x.
        weight: w; None where f has its own coefficients, none of them negative.
        source: index of x among the inputs of the map.
        present: 1 where an entry of x is an input, and 0 where it is a constant that counts as bias; None is 1
            everywhere.
    """

    apply: Callable[[Tensor, Tensor | None], Tensor]
    inputs: Tensor
    weight: Tensor | None = None
    source: int = 0
    present: Tensor | None = None

    def at_inputs(self, values: Tensor) -> Tensor:
        """Return values of the shape of x, and zero where x is no input."""
        return values if self.present is None else values * self.present


@dataclass(frozen=True)
class LinearMap:
    """One linear step of a forward.

    Args:
        kind: kind of the map, which selects its rule.
        parts: summands of the output.
        bias: constant added to the output that absorbs relevance; broadcasts to the sum of the parts.
        idle: constant added to the output that is excluded from the relevance.
    """

    kind: Kind
    parts: tuple[Part, ...]
    bias: Tensor | None = None
    idle: Tensor | None = None

    def within(self, present: Sequence[Tensor | None]) -> LinearMap:
        """Return the map with what the constants among its inputs contribute added to the bias.

        Args:
            present: for each source, 1 where an entry is an input and 0 where it is a constant; None is 1 everywhere.
        """
        if all(mark is None for mark in present):
            return self
        parts, bias = [], self.bias
        for part in self.parts:
            part = replace(part, present=present[part.source])
            inside = part.at_inputs(part.inputs)
            outside = wide(part.inputs - inside)
            if bool(outside.any()):
                constant = part.apply(outside, wide(part.weight)).detach()
                bias = constant if bias is None else bias + constant
            parts.append(replace(part, inputs=inside))
        return replace(self, parts=tuple(parts), bias=bias)

    def outputs(self) -> Tensor:
        """Return the outputs of the forward, with all constants, at least float32."""
        outputs = Given(self.parts).outputs
        for constant in (self.bias, self.idle):
            outputs = outputs if constant is None else outputs + wide(constant)
        return outputs

    def without_bias(self) -> LinearMap:
        """Return the map with its bias excluded from the relevance."""
        return replace(self, bias=None, idle=self.bias)

    def negated(self) -> LinearMap:
        """Return the map with negated outputs."""
        parts = tuple(replace(part, inputs=-part.inputs) for part in self.parts)
        bias, idle = (None if constant is None else -constant for constant in (self.bias, self.idle))
        return replace(self, parts=parts, bias=bias, idle=idle)


Rule = Callable[[LinearMap, Tensor, Ledger], list[Tensor]]


def shared(
    parts: Sequence[Part], bias: Tensor | None, relevance: Tensor, ledger: Ledger, share: float = EPSILON
) -> list[Tensor]:
    """Return the relevance shared among the sources, in proportion to the contribution of each part.

    Args:
        parts: summands of the outputs.
        bias: constant added to them.
        relevance: relevance of the outputs.
        ledger: records what bias, stabiliser and dead outputs absorb.
        share: stabiliser, as a share of mean |z|.

    Returns:
        One tensor per source.
    """
    total = Given(parts)
    outputs = total.outputs if bias is None else total.outputs + wide(bias)
    return total.handed_back(_messages(outputs, bias, relevance.to(outputs.dtype), ledger, share))


class Given:
    """The sum of parts, with the graph that passes messages back to their inputs.

    Args:
        parts: parts of one map.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._inputs = [wide(part.inputs.detach()).requires_grad_(True) for part in parts]
        with torch.enable_grad():
            terms = [part.apply(inputs, wide(part.weight)) for part, inputs in zip(parts, self._inputs, strict=True)]
            self._total = reduce(torch.add, terms)
        self.outputs = self._total.detach()

    def handed_back(self, messages: Tensor) -> list[Tensor]:
        """Return sum_p x_p (*) f_p^T(w_p, messages), one tensor per source; can be called once."""
        shares: dict[int, Tensor] = {}
        transposed = torch.autograd.grad(self._total, self._inputs, messages)
        for part, inputs, message in zip(self._parts, self._inputs, transposed, strict=True):
            share = message * inputs.detach()
            shares[part.source] = shares[part.source] + share if part.source in shares else share
        return [shares[source] for source in sorted(shares)]


def _messages(outputs: Tensor, bias: Tensor | None, relevance: Tensor, ledger: Ledger, share: float) -> Tensor:
    """Return relevance / stab(outputs), and zero where the outputs are zero."""
    tiny = torch.finfo(outputs.dtype).tiny
    sizes = outputs.abs()
    dead = sizes <= tiny
    rows = ledger.rows(outputs)
    mean = sizes.reshape(rows, -1).mean(1).reshape([rows, *[1] * (outputs.ndim - 1)] if outputs.ndim else [])
    offset = torch.copysign((share * mean).clamp_min(tiny), outputs) if share else torch.zeros_like(mean)
    steady = outputs + offset
    if bool(dead.any()):
        ledger.book("dead", relevance * dead)
        relevance, steady = relevance.masked_fill(dead, 0), steady.masked_fill(dead, 1)
    messages = relevance / steady
    if share:
        ledger.book("stabiliser", torch.linalg.vecdot(messages.reshape(rows, -1), offset.reshape(rows, -1)))
    if bias is not None:
        ledger.book("bias", _summed(messages, bias) * wide(bias))
    return messages


def _summed(messages: Tensor, bias: Tensor) -> Tensor:
    """Return messages summed over the axes along which the bias broadcasts, except the batch axis."""
    shape = [1] * (messages.ndim - bias.ndim) + list(bias.shape)
    axes = [axis for axis in range(1, messages.ndim) if shape[axis] == 1]
    return messages.sum(axes, keepdim=True) if axes else messages


def epsilon(step: LinearMap, relevance: Tensor, ledger: Ledger, share: float = EPSILON) -> list[Tensor]:
    """Share by signed contributions; `share=0` is rule 0."""
    return shared(step.parts, step.bias, relevance, ledger, share)


def z_plus(step: LinearMap, relevance: Tensor, ledger: Ledger, share: float = ONE_SIGN) -> list[Tensor]:
    """Share by positive contributions."""
    return shared(positive_parts(step), _clamped(step.bias, 1), relevance, ledger, share)


def alpha_beta(step: LinearMap, relevance: Tensor, ledger: Ledger, alpha: float = 2.0) -> list[Tensor]:
    """Share alpha R by positive contributions and (1 - alpha) R by negative ones."""
    positive = shared(positive_parts(step), _clamped(step.bias, 1), alpha * relevance, ledger, ONE_SIGN)
    if alpha == 1:
        return positive
    negative = shared(negative_parts(step), _clamped(step.bias, -1), (1 - alpha) * relevance, ledger, ONE_SIGN)
    return [plus + minus for plus, minus in zip(positive, negative, strict=True)]


def gamma(step: LinearMap, relevance: Tensor, ledger: Ledger, factor: float = 0.25) -> list[Tensor]:
    """Share by contributions, where those with the sign of the output count 1 + factor times."""
    outputs = step.outputs()
    totals: list[Tensor] = []
    for sign in (1, -1):
        selected = torch.where(outputs * sign > 0, relevance, 0)
        parts = [favoured for part in step.parts for favoured in _favoured(part, sign, factor)]
        bias = None if step.bias is None else step.bias + factor * _clamp(step.bias, sign)
        shares = shared(parts, bias, selected, ledger)
        totals = [total + share for total, share in zip(totals, shares, strict=True)] if totals else shares
    ledger.book("dead", torch.where(outputs == 0, relevance, 0))
    return totals


def z_box(step: LinearMap, relevance: Tensor, ledger: Ledger, *, low: Tensor, high: Tensor) -> list[Tensor]:
    """Share by the distance of each input from the end of its range that lowers the output.

    Args:
        step: the first map.
        relevance: relevance of its outputs.
        ledger: ledger of the pass.
        low: smallest possible inputs, (1, C, 1, 1), or of the inputs' rank and broadcasting to them.
        high: largest possible inputs, likewise.

    Raises:
        BadInput: the first map does not read the image.
    """
    parts = []
    for part in step.parts:
        assert part.weight is not None
        ends = [part.at_inputs(_at(end.to(part.inputs), part.inputs)) for end in (low, high)]
        parts += [
            part,
            replace(part, inputs=ends[0], weight=-part.weight.clamp_min(0)),
            replace(part, inputs=ends[1], weight=-part.weight.clamp_max(0)),
        ]
    return shared(parts, None, relevance, ledger)


def _at(end: Tensor, inputs: Tensor) -> Tensor:
    """Return an end of the range expanded to the inputs of the first map, an image or a flattened image."""
    if end.ndim == 4 and inputs.ndim == 2 and inputs.shape[1] % end.shape[1] == 0:
        end = end.flatten(1).repeat_interleave(inputs.shape[1] // end.shape[1], 1)
    if end.ndim != inputs.ndim or any(
        size not in (1, expected) for size, expected in zip(end.shape, inputs.shape, strict=True)
    ):
        raise BadInput(
            f"z-box: expected a first map that reads the image's {end.shape[1]} channels, got inputs "
            f"{tuple(inputs.shape)}; use first='flat'"
        )
    return end.expand_as(inputs)


def w_squared(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by squared weights, independently of the inputs."""
    return shared([_ones(part, lambda w: w.square()) for part in step.parts], None, relevance, ledger, ONE_SIGN)


def flat(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share equally among all inputs of an output."""
    return shared([_ones(part, torch.ones_like) for part in step.parts], None, relevance, ledger, ONE_SIGN)


def positive_parts(step: LinearMap) -> list[Part]:
    """Return parts that sum the positive contributions."""
    return [signed for part in step.parts for signed in _signed(part, 1)]


def negative_parts(step: LinearMap) -> list[Part]:
    """Return parts that sum the negative contributions."""
    return [signed for part in step.parts for signed in _signed(part, -1)]


def _signed(part: Part, sign: int) -> list[Part]:
    """Split a part by the signs of its inputs and weight, and keep the products with `sign`."""
    if part.weight is None:
        return [replace(part, inputs=_clamp(part.inputs, sign))]
    if not bool((part.inputs < 0).any()):
        return [replace(part, weight=_clamp(part.weight, sign))]
    return [
        replace(part, inputs=part.inputs.clamp_min(0), weight=_clamp(part.weight, sign)),
        replace(part, inputs=part.inputs.clamp_max(0), weight=_clamp(part.weight, -sign)),
    ]


def _favoured(part: Part, sign: int, factor: float) -> list[Part]:
    """Return parts in which products with `sign` count 1 + factor times."""
    if part.weight is None:
        return [replace(part, inputs=part.inputs + factor * _clamp(part.inputs, sign))]
    if not bool((part.inputs < 0).any()):
        return [replace(part, weight=part.weight + factor * _clamp(part.weight, sign))]
    return [
        replace(part, inputs=part.inputs.clamp_min(0), weight=part.weight + factor * _clamp(part.weight, sign)),
        replace(part, inputs=part.inputs.clamp_max(0), weight=part.weight + factor * _clamp(part.weight, -sign)),
    ]


def _ones(part: Part, weigh: Callable[[Tensor], Tensor]) -> Part:
    weight = None if part.weight is None else weigh(part.weight)
    return replace(part, inputs=part.at_inputs(torch.ones_like(part.inputs)), weight=weight)


def _clamp(tensor: Tensor, sign: int) -> Tensor:
    return tensor.clamp_min(0) if sign > 0 else tensor.clamp_max(0)


def _clamped(bias: Tensor | None, sign: int) -> Tensor | None:
    return None if bias is None else _clamp(bias, sign)


@overload
def wide(tensor: Tensor) -> Tensor: ...
@overload
def wide(tensor: None) -> None: ...
def wide(tensor: Tensor | None) -> Tensor | None:
    """Return a tensor in at least float32."""
    return tensor if tensor is None or tensor.dtype == torch.float64 else tensor.float()
