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

The mean is over one image's outputs of the map, so that the stabiliser depends on no other image; e is 1e-6, and 1e-9
where all parts have one sign.

Shapes: relevance as the map's output; returned shares as the map's sources.
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
ONE_SIGN = 1e-9  # where all parts have one sign nothing cancels, and less is enough

Kind = Literal["convolution", "dense", "normalisation", "scale", "shift", "pool", "sum"]


@dataclass(frozen=True)
class Part:
    """One summand f(x, w) of a map.

    Args:
        apply: f, linear in x and in w.
        inputs: x.
        weight: w; None where f has coefficients of its own, none of them negative.
        source: number of the map's input that x is.
    """

    apply: Callable[[Tensor, Tensor | None], Tensor]
    inputs: Tensor
    weight: Tensor | None = None
    source: int = 0


@dataclass(frozen=True)
class LinearMap:
    """One linear step of a forward.

    Args:
        kind: which rule it gets.
        parts: what it sums.
        bias: what it adds, and what takes its share; broadcasts to the sum.
        idle: what it adds, and what takes no share.
    """

    kind: Kind
    parts: tuple[Part, ...]
    bias: Tensor | None = None
    idle: Tensor | None = None

    def without_bias(self) -> LinearMap:
        """Return the map with its bias idle."""
        return replace(self, bias=None, idle=self.bias)

    def negated(self) -> LinearMap:
        """Return the map with its outputs' signs changed."""
        parts = tuple(replace(part, inputs=-part.inputs) for part in self.parts)
        bias, idle = (None if one is None else -one for one in (self.bias, self.idle))
        return replace(self, parts=parts, bias=bias, idle=idle)


Rule = Callable[[LinearMap, Tensor, Ledger], list[Tensor]]


def shared(
    parts: Sequence[Part], bias: Tensor | None, relevance: Tensor, ledger: Ledger, share: float = EPSILON
) -> list[Tensor]:
    """Share relevance among parts, each in proportion to what it gives.

    Args:
        parts: what the outputs are made of.
        bias: what is added to them.
        relevance: of the outputs.
        ledger: books what bias, stabiliser and dead outputs take.
        share: of mean |z| that stabilises.

    Returns:
        One tensor a source.
    """
    given = Given(parts)
    outputs = given.outputs if bias is None else given.outputs + _wide(bias)
    return given.handed_back(_messages(outputs, bias, relevance.to(outputs.dtype), ledger, share))


class Given:
    """What parts give together, kept for handing messages back.

    Args:
        parts: of one map.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._places = [_wide(part.inputs.detach()).requires_grad_(True) for part in parts]
        with torch.enable_grad():
            given = [part.apply(place, _wide(part.weight)) for part, place in zip(parts, self._places, strict=True)]
            self._total = given[0] if len(given) == 1 else reduce(torch.add, given)
        self.outputs = self._total.detach()

    def handed_back(self, messages: Tensor) -> list[Tensor]:
        """Return sum_p x_p (*) f_p^T(w_p, messages), a tensor a source; once only."""
        found: dict[int, Tensor] = {}
        transposed = torch.autograd.grad(self._total, self._places, messages)
        for part, place, message in zip(self._parts, self._places, transposed, strict=True):
            share = message * place.detach()
            found[part.source] = found[part.source] + share if part.source in found else share
        return [found[source] for source in sorted(found)]


def _messages(outputs: Tensor, bias: Tensor | None, relevance: Tensor, ledger: Ledger, share: float) -> Tensor:
    """Return relevance / stab(outputs), zero where nothing was given."""
    tiny = torch.finfo(outputs.dtype).tiny
    sizes = outputs.abs()
    dead = sizes <= tiny
    mean = sizes.flatten(1).mean(1).reshape(-1, *[1] * (outputs.ndim - 1))
    offset = torch.copysign((share * mean).clamp_min(tiny), outputs) if share else torch.zeros_like(mean)
    steady = outputs + offset
    if bool(dead.any()):
        ledger.book("dead", relevance * dead)
        relevance, steady = relevance.masked_fill(dead, 0), steady.masked_fill(dead, 1)
    messages = relevance / steady
    if share:
        ledger.book("stabiliser", torch.linalg.vecdot(messages.flatten(1), offset.flatten(1)))
    if bias is not None:
        ledger.book("bias", _summed(messages, bias) * _wide(bias))
    return messages


def _summed(messages: Tensor, bias: Tensor) -> Tensor:
    """Return messages summed over the axes along which a bias is the same, but for that of the images."""
    shape = [1] * (messages.ndim - bias.ndim) + list(bias.shape)
    alike = [axis for axis in range(1, messages.ndim) if shape[axis] == 1]
    return messages.sum(alike, keepdim=True) if alike else messages


def epsilon(step: LinearMap, relevance: Tensor, ledger: Ledger, share: float = EPSILON) -> list[Tensor]:
    """Share by signed contributions; `share=0` is the rule 0."""
    return shared(step.parts, step.bias, relevance, ledger, share)


def z_plus(step: LinearMap, relevance: Tensor, ledger: Ledger, share: float = ONE_SIGN) -> list[Tensor]:
    """Share by positive contributions."""
    return shared(positive_parts(step), _clamped(step.bias, 1), relevance, ledger, share)


def alpha_beta(step: LinearMap, relevance: Tensor, ledger: Ledger, alpha: float = 2.0) -> list[Tensor]:
    """Share alpha times the relevance by positive and, negated, alpha - 1 times by negative contributions."""
    found = shared(positive_parts(step), _clamped(step.bias, 1), alpha * relevance, ledger, ONE_SIGN)
    if alpha == 1:
        return found
    taken = shared(negative_parts(step), _clamped(step.bias, -1), (1 - alpha) * relevance, ledger, ONE_SIGN)
    return [one + other for one, other in zip(found, taken, strict=True)]


def gamma(step: LinearMap, relevance: Tensor, ledger: Ledger, factor: float = 0.25) -> list[Tensor]:
    """Share by contributions of which those of the output's own sign count 1 + factor times."""
    outputs = Given(step.parts).outputs
    for added in (step.bias, step.idle):
        outputs = outputs if added is None else outputs + _wide(added)
    found: list[Tensor] = []
    for sign in (1, -1):
        chosen = torch.where(outputs * sign > 0, relevance, 0)
        parts = [one for part in step.parts for one in _favoured(part, sign, factor)]
        bias = None if step.bias is None else step.bias + factor * _clamp(step.bias, sign)
        shares = shared(parts, bias, chosen, ledger)
        found = [one + other for one, other in zip(found, shares, strict=True)] if found else shares
    ledger.book("dead", torch.where(outputs == 0, relevance, 0))
    return found


def z_box(step: LinearMap, relevance: Tensor, ledger: Ledger, *, low: Tensor, high: Tensor) -> list[Tensor]:
    """Share by the distance of each input from the end of its range that speaks against the output.

    Args:
        step: the first map.
        relevance: of its outputs.
        ledger: of the run.
        low: smallest inputs, (1, C, 1, 1), or with an axis for each of the inputs' and broadcasting to them.
        high: largest inputs, likewise.

    Raises:
        BadInput: the first map reads something else than the image.
    """
    parts = []
    for part in step.parts:
        assert part.weight is not None
        ends = [_at(end.to(part.inputs), part.inputs) for end in (low, high)]
        parts += [
            part,
            replace(part, inputs=ends[0], weight=-part.weight.clamp_min(0)),
            replace(part, inputs=ends[1], weight=-part.weight.clamp_max(0)),
        ]
    return shared(parts, None, relevance, ledger)


def _at(end: Tensor, inputs: Tensor) -> Tensor:
    """Return an end of the range at each input of the first map, which reads the image or the flattened image."""
    if end.ndim == 4 and inputs.ndim == 2 and inputs.shape[1] % end.shape[1] == 0:
        end = end.flatten(1).repeat_interleave(inputs.shape[1] // end.shape[1], 1)
    if end.ndim != inputs.ndim or any(
        one not in (1, other) for one, other in zip(end.shape, inputs.shape, strict=True)
    ):
        raise BadInput(
            f"z-box: expected a first map that reads the image's {end.shape[1]} channels, got inputs "
            f"{tuple(inputs.shape)}; use first='flat'"
        )
    return end.expand_as(inputs)


def w_squared(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share by squared weights, whatever the inputs are."""
    return shared([_ones(part, lambda w: w.square()) for part in step.parts], None, relevance, ledger, ONE_SIGN)


def flat(step: LinearMap, relevance: Tensor, ledger: Ledger) -> list[Tensor]:
    """Share evenly among all inputs of an output."""
    return shared([_ones(part, torch.ones_like) for part in step.parts], None, relevance, ledger, ONE_SIGN)


def positive_parts(step: LinearMap) -> list[Part]:
    """Return the parts whose contributions are positive."""
    return [part for whole in step.parts for part in _signed(whole, 1)]


def negative_parts(step: LinearMap) -> list[Part]:
    """Return the parts whose contributions are negative."""
    return [part for whole in step.parts for part in _signed(whole, -1)]


def _signed(part: Part, sign: int) -> list[Part]:
    """Split inputs and weight by sign and keep the products of one sign."""
    if part.weight is None:
        return [replace(part, inputs=_clamp(part.inputs, sign))]
    signed = bool((part.inputs < 0).any())
    above = part.inputs.clamp_min(0) if signed else part.inputs
    found = [replace(part, inputs=above, weight=_clamp(part.weight, sign))]
    if signed:
        found.append(replace(part, inputs=part.inputs.clamp_max(0), weight=_clamp(part.weight, -sign)))
    return found


def _favoured(part: Part, sign: int, factor: float) -> list[Part]:
    """Return a part in which products of one sign count 1 + factor times."""
    if part.weight is None:
        inputs = part.inputs + factor * _clamp(part.inputs, sign)
        return [replace(part, inputs=inputs)]
    if not bool((part.inputs < 0).any()):
        return [replace(part, weight=part.weight + factor * _clamp(part.weight, sign))]
    return [
        replace(part, inputs=part.inputs.clamp_min(0), weight=part.weight + factor * _clamp(part.weight, sign)),
        replace(part, inputs=part.inputs.clamp_max(0), weight=part.weight + factor * _clamp(part.weight, -sign)),
    ]


def _ones(part: Part, weigh: Callable[[Tensor], Tensor]) -> Part:
    weight = None if part.weight is None else weigh(part.weight)
    return replace(part, inputs=torch.ones_like(part.inputs), weight=weight)


def _clamp(tensor: Tensor, sign: int) -> Tensor:
    return tensor.clamp_min(0) if sign > 0 else tensor.clamp_max(0)


def _clamped(bias: Tensor | None, sign: int) -> Tensor | None:
    return None if bias is None else _clamp(bias, sign)


@overload
def _wide(tensor: Tensor) -> Tensor: ...
@overload
def _wide(tensor: None) -> None: ...
def _wide(tensor: Tensor | None) -> Tensor | None:
    """Return a tensor in at least float32."""
    return tensor if tensor is None or tensor.dtype == torch.float64 else tensor.float()
