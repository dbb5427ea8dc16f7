"""The rules of multipliers: what an operation hands back, so that its inputs' differences make up its output's.

    elementwise   m_x = m_y * (y - y') / (x - x')         where rounding leaves that ratio half its digits,
                  m_x = m_y * f'((x + x') / 2)            elsewhere
    product       the derivative at the midpoint: m_a = m_y * (b + b') / 2 for y = a * b, alike for matrix products
    largest       y - y' is given to the position of the larger of both maxima: m_x = m_y * (y - y') / (x - x') there

All are exact: sum(m_x * (x - x')) = sum(m_y * (y - y')). The ratio of a largest value lies in [0, 1], because there the
larger side gains at least what the maximum gains.

Shapes: activations (m + u) * k first, for m inputs, u others and k positions that the network moved into that axis.
Source: Shrikumar et al., ICML 2017, sections 3.2 and 3.5.1 (Rescale); max-pooling as in Lundberg & Lee's Deep SHAP.
Departs from source: products by midpoints and LayerNorm by its parts, for which the paper has no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from xaikit.foundation.errors import BadInput
from xaikit.model.torch_functions import writes

Call = Callable[..., Any]
Back = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Pairing:
    """Which rows of a batch belong together: `count` inputs, then `others`, each input with its mate.

    Args:
        count: number of inputs m.
        others: number of others u.
        mates: (m,) the place among the others of each input's mate; None where all share one.
    """

    count: int
    others: int
    mates: Tensor | None

    def split(self, activation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations of the inputs and of their mates, both (m * k, ...).

        Raises:
            BadInput: the first axis does not hold the images.
        """
        rows = self.count + self.others
        parts, rest = divmod(len(activation) if activation.ndim else 0, rows)
        if rest or not parts:
            raise BadInput(
                f"multipliers: expected activations of {rows} images in the first axis, got "
                f"{tuple(activation.shape)}; use integrated-gradients"
            )
        first, second = activation[: self.count * parts], activation[self.count * parts :]
        second = second.reshape(self.others, parts, *activation.shape[1:])
        if self.mates is None:
            return first, second.expand(self.count, *second.shape[1:]).flatten(0, 1)
        return first, second.index_select(0, self.mates).flatten(0, 1)

    def first(self, activation: Tensor) -> Tensor:
        """Return the activations of the inputs."""
        return activation[: len(activation) * self.count // (self.count + self.others)]

    def middle(self, activation: Tensor) -> Tensor:
        """Return the mean of each pair's activations."""
        first, second = self.split(activation)
        return (first + second) / 2

    def whole(self, multipliers: Tensor) -> Tensor:
        """Return multipliers of the inputs as those of all rows; the others have none."""
        rest = len(multipliers) * self.others // self.count
        return torch.cat([multipliers, multipliers.new_zeros(rest, *multipliers.shape[1:])])


def activations_in(values: Any) -> list[Tensor]:
    """Return the tensors among arguments or outputs that depend on the input."""
    return [one for one in tree_leaves(values) if isinstance(one, Tensor) and one.requires_grad]


class _Carry(torch.autograd.Function):
    """An operation that hands multipliers back by a rule."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., tuple[Tensor, Back]], *inputs: Tensor) -> Tensor:
        output, ctx.back = run(*(one.detach() for one in inputs))
        return output

    @staticmethod
    def backward(ctx: Any, coming: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.back(coming)


def carried(run: Callable[..., tuple[Tensor, Back]], *inputs: Tensor) -> Tensor:
    """Return the output of `run(*inputs)`, which also returns what hands multipliers back to each input."""
    found: Tensor = _Carry.apply(run, *inputs)
    return found


def _of_activations(function: Call, args: Any, kwargs: Any) -> tuple[Call, list[Tensor]]:
    """Return a call as a function of its activations alone, which it leaves unchanged, and them."""
    given = activations_in((args, kwargs))

    def call(*inputs: Tensor) -> Any:
        fresh = iter(inputs)
        args_now, kwargs_now = tree_map(
            lambda one: next(fresh) if isinstance(one, Tensor) and one.requires_grad else one, (args, kwargs)
        )
        if writes(function):
            args_now = (args_now[0].clone(), *args_now[1:])
        return function(*args_now, **kwargs_now)

    return call, given


def _vector_times_jacobian(call: Call, inputs: Sequence[Tensor], vector: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        places = [one.detach().requires_grad_(True) for one in inputs]
        output = call(*places)
        return torch.autograd.grad(output, places, vector.to(output))


def elementwise(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return a function of one activation, value by value.

    Raises:
        BadInput: it is given several activations.
    """
    call, given = _of_activations(function, args, kwargs)
    if len(given) > 1:
        raise BadInput(
            f"multipliers: expected {function.__name__.strip('_')} of one activation, got {len(given)}; "
            "use integrated-gradients"
        )

    def run(inputs: Tensor) -> tuple[Tensor, Back]:
        output = call(inputs)
        share = slope(call, *pairing.split(inputs), *pairing.split(output))
        return output, lambda coming: (pairing.whole((pairing.first(coming) * share).to(inputs.dtype)),)

    return carried(run, given[0])


def slope(call: Call, x: Tensor, other_x: Tensor, y: Tensor, other_y: Tensor) -> Tensor:
    """Return (y - y') / (x - x'), or the derivative at the midpoint where rounding would rule that ratio."""
    step = x - other_x
    precise = step.abs() > torch.finfo(y.dtype).eps ** 0.5 * (y.abs() + other_y.abs())
    ratio = (y - other_y) / step
    if bool(precise.all()):
        return ratio
    middle = (x + other_x) / 2
    (derivative,) = _vector_times_jacobian(call, [middle], torch.ones_like(middle))
    return torch.where(precise, ratio, derivative)


def product(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a function that is linear in each of two activations; of one alone it needs no rule.

    Raises:
        BadInput: it is given more than two.
    """
    call, given = _of_activations(function, args, kwargs)
    if len(given) == 1:
        return function(*args, **kwargs)
    if len(given) > 2:
        raise BadInput(
            f"multipliers: expected {function.__name__.strip('_')} of two activations, got {len(given)}; "
            "use integrated-gradients"
        )

    def run(*inputs: Tensor) -> tuple[Tensor, Back]:
        middles = [pairing.middle(one) for one in inputs]

        def back(coming: Tensor) -> tuple[Tensor, ...]:
            shares = _vector_times_jacobian(call, middles, pairing.first(coming))
            return tuple(pairing.whole(share) for share in shares)

        return call(*inputs), back

    return carried(run, *given)


def largest(pairing: Pairing, values: Tensor, found: Tensor, places: Tensor) -> Tensor:
    """Return the largest values `found` (L, C, q) of values (L, C, p), which stand at places (L, C, q)."""

    def run(inputs: Tensor) -> tuple[Tensor, Back]:
        x, other_x = pairing.split(inputs)
        y, other_y = pairing.split(found)
        own, other = pairing.split(places)
        winner = torch.where(y >= other_y, own, other)
        step = (x - other_x).gather(2, winner)
        share = torch.where(step == 0, 1, (y - other_y) / step)

        def back(coming: Tensor) -> tuple[Tensor, ...]:
            given = (pairing.first(coming) * share).to(x.dtype)
            empty = torch.zeros_like(x, memory_format=torch.contiguous_format)
            return (pairing.whole(empty.scatter_add_(2, winner, given)),)

        return found.clone(), back

    return carried(run, values)
