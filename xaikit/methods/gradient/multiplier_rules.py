"""Rules that propagate multipliers from the output of an operation to its inputs.

    elementwise   m_x = m_y * (y - y') / (x - x')         if rounding leaves at least half of that ratio's digits,
                  m_x = m_y * f'((x + x') / 2)            otherwise
    product       the derivative at the midpoint: m_a = m_y * (b + b') / 2 for y = a * b; likewise for matrix products
    largest       all of y - y' goes to the position of the larger of both maxima: m_x = m_y * (y - y') / (x - x') there

All rules are exact: sum(m_x * (x - x')) = sum(m_y * (y - y')). The ratio in `largest` lies in [0, 1], because at that
position |x - x'| is at least |y - y'|.

Shapes: first axis of activations (m + u) * k, for m inputs, u others and k positions or views that the network moved
    into it.
Source: Shrikumar et al., ICML 2017, sections 3.2 and 3.5.1 (Rescale); max-pooling as in Lundberg & Lee's Deep SHAP.
Departs from source: adds products by midpoints and LayerNorm by its parts, for which the paper has no rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves, tree_map

from xaikit.foundation.errors import BadInput
from xaikit.model.torch_functions import named, writes

Call = Callable[..., Any]
_INVERSES, _POWERS = named("reciprocal rsqrt"), named("pow")
Back = Callable[[Tensor], tuple[Tensor, ...]]


Order = Literal["images", "views"]


@dataclass(frozen=True)
class Pairing:
    """Pairs of rows in a batch of `count` inputs x followed by `others`, the x' that they are compared with.

    Args:
        count: number of inputs m.
        others: number of others u.
        mates: (m,) index of each input's mate among the others; None if all inputs share one.
        order: what the k rows of an image are beside in the first axis: each other ("images", as windows cut out of
            each image), or those of the other images ("views", as flipped images behind the batch).
        parts: numbers k that were met.
    """

    count: int
    others: int
    mates: Tensor | None
    order: Order = "images"
    parts: set[int] = field(default_factory=set)

    def split(self, activation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations of the inputs and of their mates, both (m * k, ...).

        Raises:
            BadInput: the length of the first axis is not a multiple of the number of images.
        """
        rows = self.count + self.others
        parts, rest = divmod(len(activation) if activation.ndim else 0, rows)
        if rest or not parts:
            raise BadInput(
                f"multipliers: expected activations of {rows} images in the first axis, got "
                f"{tuple(activation.shape)}; use integrated-gradients"
            )
        self.parts.add(parts)
        by_image = self._by_image(activation, rows)
        first, second = by_image[: self.count], by_image[self.count :]
        mates = second.expand_as(first) if self.mates is None else second.index_select(0, self.mates)
        return self._flat(first), self._flat(mates)

    def first(self, activation: Tensor) -> Tensor:
        """Return the activations of the inputs."""
        return self._flat(self._by_image(activation, self.count + self.others)[: self.count])

    def middle(self, activation: Tensor) -> Tensor:
        """Return the mean of each pair's activations."""
        first, second = self.split(activation)
        return (first + second) / 2

    def whole(self, multipliers: Tensor) -> Tensor:
        """Return the multipliers of the inputs extended to all rows, with zeros for the others."""
        first = self._by_image(multipliers, self.count)
        return self._flat(torch.cat([first, first.new_zeros(self.others, *first.shape[1:])]))

    def _by_image(self, rows: Tensor, images: int) -> Tensor:
        """Return rows (images * k, ...) as (images, k, ...)."""
        if self.order == "images":
            return rows.reshape(images, -1, *rows.shape[1:])
        return rows.reshape(-1, images, *rows.shape[1:]).transpose(0, 1)

    def _flat(self, rows: Tensor) -> Tensor:
        """Return rows (images, k, ...) as (images * k, ...)."""
        return (rows if self.order == "images" else rows.transpose(0, 1)).flatten(0, 1)


def activations_in(values: Any) -> list[Tensor]:
    """Return the tensors in a tree of arguments or outputs that depend on the input."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.requires_grad]


class _Carry(torch.autograd.Function):
    """An operation whose backward pass propagates multipliers by a rule."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., tuple[Tensor, Back]], inverse: bool, *inputs: Tensor) -> Tensor:
        output, ctx.back = run(*(tensor.detach() for tensor in inputs))
        ctx.inverse = inverse
        return output

    @staticmethod
    def backward(ctx: Any, multipliers: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.back(multipliers)


def carried(run: Callable[..., tuple[Tensor, Back]], *inputs: Tensor, inverse: bool = False) -> Tensor:
    """Return the output of an operation whose multipliers follow a rule.

    Args:
        run: returns the output for `inputs`, and a function from the multipliers of the output to those of each input.
        inputs: activations.
        inverse: whether the output is the inverse of the input, or of a power of it.
    """
    output: Tensor = _Carry.apply(run, inverse, *inputs)
    return output


def is_inverse(activation: Tensor) -> bool:
    """Return whether an activation is an inverse, with only linear operations on it alone since."""
    sources = [activation.grad_fn]
    while len(sources) == 1 and not hasattr(sources[0], "inverse"):
        sources = [] if sources[0] is None else [node for node, _ in sources[0].next_functions if node is not None]
    return len(sources) == 1 and bool(getattr(sources[0], "inverse", False))


def differs(pairing: Pairing, constant: Tensor) -> bool:
    """Return whether a constant with one row per activation differs within a pair: it depends on the image."""
    if not constant.ndim or len(constant) % (pairing.count + pairing.others):
        return False
    first, second = pairing.split(constant)
    return not torch.equal(first, second)


def refusing(error: BadInput, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the output of an operation without a rule, whose backward raises `error` if a multiplier arrives."""

    def back(multipliers: Tensor) -> tuple[Tensor, ...]:
        if bool((multipliers != 0).any()):
            raise error
        return (multipliers,)

    def refused(value: Any) -> Any:
        return carried(lambda inputs: (inputs.clone(), back), value) if activations_in(value) else value

    if args and (writes(function) or function.__name__ == "__setitem__"):
        changed = args[0].clone()
        function(changed, *args[1:], **kwargs)
        return args[0].copy_(refused(changed))
    return tree_map(refused, function(*args, **kwargs))


def _of_activations(function: Call, args: Any, kwargs: Any) -> tuple[Call, list[Tensor]]:
    """Return a call as a function of its activations alone, free of in-place writes, and these activations."""

    def call(*inputs: Tensor) -> Any:
        replacements = iter(inputs)
        new_args, new_kwargs = tree_map(
            lambda leaf: next(replacements) if isinstance(leaf, Tensor) and leaf.requires_grad else leaf, (args, kwargs)
        )
        if writes(function):
            new_args = (new_args[0].clone(), *new_args[1:])
        return function(*new_args, **new_kwargs)

    return call, activations_in((args, kwargs))


def _pullback(call: Call, inputs: Sequence[Tensor]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Return the map from a vector to the vector times the Jacobian of a call; it is used once.

    The call runs now, while no rule acts on it; a checkpoint around it keeps none of its tensors.
    """
    with torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
        leaves = [tensor.detach().requires_grad_(True) for tensor in inputs]
        output = call(*leaves)
    dtype = output.dtype
    return lambda vector: torch.autograd.grad(output, leaves, vector.to(dtype))


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def elementwise(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Apply an elementwise function of one activation.

    Raises:
        BadInput: several arguments are activations.
    """
    call, activations = _of_activations(function, args, kwargs)
    if len(activations) > 1:
        raise BadInput(
            f"multipliers: expected {function.__name__.strip('_')} of one activation, got {len(activations)}; "
            "use integrated-gradients"
        )

    def run(inputs: Tensor) -> tuple[Tensor, Back]:
        output = call(inputs)
        ratio = slope(call, *pairing.split(inputs), *pairing.split(output))
        return output, lambda multipliers: (pairing.whole((pairing.first(multipliers) * ratio).to(inputs.dtype)),)

    inverse = function in _INVERSES or (function in _POWERS and _negative(args[1:], kwargs))
    return carried(run, activations[0], inverse=inverse)


def _negative(rest: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(isinstance(value, int | float) and value < 0 for value in (*rest, *kwargs.values()))


def slope(call: Call, x: Tensor, other_x: Tensor, y: Tensor, other_y: Tensor) -> Tensor:
    """Return (y - y') / (x - x'), or the derivative at the midpoint where rounding errors dominate that ratio."""
    step = x - other_x
    precise = step.abs() > torch.finfo(y.dtype).eps ** 0.5 * (y.abs() + other_y.abs())
    ratio = (y - other_y) / step
    if bool(precise.all()):
        return ratio
    middle = (x + other_x) / 2
    (derivative,) = _pullback(call, [middle])(torch.ones_like(middle))
    return torch.where(precise, ratio, derivative)


def product(pairing: Pairing, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply a function that is linear in each of two activations; with one activation it needs no rule.

    Raises:
        BadInput: more than two arguments are activations.
    """
    call, activations = _of_activations(function, args, kwargs)
    if len(activations) == 1:
        return function(*args, **kwargs)
    if len(activations) > 2:
        raise BadInput(
            f"multipliers: expected {function.__name__.strip('_')} of two activations, got {len(activations)}; "
            "use integrated-gradients"
        )

    def run(*inputs: Tensor) -> tuple[Tensor, Back]:
        pullback = _pullback(call, [pairing.middle(activation) for activation in inputs])

        def back(multipliers: Tensor) -> tuple[Tensor, ...]:
            return tuple(pairing.whole(tensor) for tensor in pullback(pairing.first(multipliers)))

        return call(*inputs), back

    return carried(run, *activations)


def largest(pairing: Pairing, values: Tensor, maxima: Tensor, indices: Tensor) -> Tensor:
    """Return the maxima (L, C, q) of values (L, C, p), which lie at indices (L, C, q)."""

    def run(inputs: Tensor) -> tuple[Tensor, Back]:
        x, other_x = pairing.split(inputs)
        y, other_y = pairing.split(maxima)
        index, other_index = pairing.split(indices)
        winner = torch.where(y >= other_y, index, other_index)
        step = (x - other_x).gather(2, winner)
        ratio = torch.where(step == 0, 1, (y - other_y) / step)

        def back(multipliers: Tensor) -> tuple[Tensor, ...]:
            products = (pairing.first(multipliers) * ratio).to(x.dtype)
            zeros = torch.zeros_like(x, memory_format=torch.contiguous_format)
            return (pairing.whole(zeros.scatter_add_(2, winner, products)),)

        return maxima.clone(), back

    return carried(run, values)
