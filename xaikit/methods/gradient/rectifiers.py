"""Backward passes with a modified ReLU rule, for deconvolution and guided backpropagation.

    gradient        R = g * [x > 0]
    deconvolution   R = g * [g > 0]
    guided          R = g * [x > 0] * [g > 0]

A backward inside the forward, as of a network that differentiates an energy, is a part of the function, and has the
gradient.

For a ReLU with an upper bound, such as ReLU6 or a clamp from zero, [x > 0] means that x lies between both bounds.

A ReLU is what behaves as one, whatever its name: a call whose output is min(max(x, 0), bound) for one of its arguments
x. It is tried on numbers of both signs and many sizes in place of x, from which masks such as x > 0 are computed again,
so that the decision does not depend on the images at hand. Every other call that is not linear in the activations uses
its gradient, and so do operations that are no function calls (scripted code, an `autograd.Function`).

Shapes: g, x and R have the same shape.
Source: Springenberg et al., 2015, arXiv:1412.6806, figure 1.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.model.graph import tensors_in
from xaikit.model.torch_functions import (
    BATCH_NORMS,
    BLANKS,
    CONVOLUTIONS,
    LARGEST,
    LINEAR_MAPS,
    LINEARS,
    MAX_POOLS,
    MOVES,
    PADS,
    PRODUCTS,
    QUOTIENTS,
    Call,
    named,
    overwrites,
    writes,
)
from xaikit.run.batch import Batch

Rectification = Literal["deconvolution", "guided"]

_NO_ACTIVATION = (
    LINEAR_MAPS
    | MOVES
    | PADS
    | MAX_POOLS
    | BATCH_NORMS
    | named("copy layer_norm group_norm instance_norm rms_norm local_response_norm normalize")
)
_BILINEAR = CONVOLUTIONS | LINEARS | PRODUCTS | QUOTIENTS | named("matmul rmatmul mm bmm mv einsum addmm bilinear")
_WRITING = (
    "__setitem__",
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__iand__",
    "__ior__",
    "__ixor__",
)
_POSITIVE = (1e-6, 1e-4, 1e-2, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 20.0, 1e4)
_NUMBERS = (*(-number for number in _POSITIVE), 0.0, *_POSITIVE)
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError)


def rectified_gradients(batch: Batch, by: Rectification, method: str) -> tuple[Tensor, list[set[str]]]:
    """Return the modified gradient at the input (n, C, H, W), and one set of flags per image.

    Args:
        batch: the images.
        by: rule at each ReLU.
        method: name of the method, for messages.

    Returns:
        The values and the flags; `not-only-relu` marks a network in which other nonlinear operations use their
        gradient.

    Raises:
        BadInput: the network has no ReLU, or its score changes without a gradient.
    """
    rule = _Rule(by)
    rectifiers = _Rectifiers(rule)
    with torch.enable_grad(), batch.classifier.probe() as probe:
        graph = probe.graph()
        probe.otherwise(rectifiers.call)
        values = batch.input_gradients_anew(probe, graph, rule.start)
    others = rectifiers.others | set(graph.hidden())
    if not bool(values.flatten(1).any(1).all()):
        _ = batch.input_gradients  # refuses an image without a gradient
    if not rectifiers.count:
        names = ", ".join(sorted(others)) or "no activations at all"
        raise BadInput(
            f"{method}: expected a network with ReLUs, got {names}; it would equal the plain gradient: use saliency"
        )
    flags = {"not-only-relu"} if others else set()
    return values, [set(flags) for _ in range(len(batch))]


@dataclass
class _Rule:
    """The rule at each ReLU once `start` was called; a backward before, inside the forward, has the gradient."""

    by: Rectification
    started: bool = False

    def start(self) -> None:
        """Begin the backward whose gradient is modified."""
        self.started = True


@dataclass
class _Rectifiers:
    """The rule on every call of a forward, the number of ReLU calls, and the names of other nonlinear functions.

    `made` holds the tensors without a gradient that were computed from activations, such as the mask x > 0, and how;
    they are kept alive, so that an `id` identifies one tensor.
    """

    rule: _Rule
    count: int = 0
    others: set[str] = field(default_factory=set)
    made: dict[int, "_Made"] = field(default_factory=dict)

    def call(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = list(tensors_in((args, kwargs)))
        signals = [tensor for tensor in tensors if tensor.requires_grad]
        made = [tensor for tensor in tensors if id(tensor) in self.made and not tensor.requires_grad]
        masked = any(function not in MOVES or not _counts(tensor) for tensor in made)
        before = args
        if masked and _overwrites(function, args) and not args[0].requires_grad:
            before = (args[0].clone(), *args[1:]) if id(args[0]) not in self.made else args
        traced = signals and torch.is_grad_enabled()  # off inside the forward of an autograd.Function
        if not traced or not (masked or _is_nonlinear(function, args, signals)):
            output = function(*args, **kwargs)
        elif len(tensors) == 1:
            output = self._function_of_one(function, args, kwargs, tensors[0])
        elif _overwrites(function, args):
            output = self._written(function, args, kwargs)
        else:
            output = self._function_of_several(function, args, kwargs, signals)
        if (signals or made) and function not in BLANKS:
            results = [args[0]] if _overwrites(function, args) else list(tensors_in(output))
            anew = [self._made(tensor, function, before, kwargs, place) for place, tensor in enumerate(results)]
            self.made.update({id(one.tensor): one for one in anew if not one.tensor.requires_grad})
        return output

    def _function_of_one(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Tensor) -> Any:
        row = torch.tensor(_NUMBERS, dtype=inputs.dtype, device=inputs.device)
        try:
            bound = _bound(row, _with(function, args, kwargs, inputs, row.clone()))
        except _FAILURES:
            bound = None
        if bound is None:
            return self._other(function, args, kwargs)
        output = self._rectified(inputs, bound)
        in_place = overwrites(function, args, kwargs)
        return inputs.copy_(output) if in_place else output

    def _function_of_several(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], signals: list[Tensor]
    ) -> Any:
        """Run `maximum`, `where`, a product with a mask."""
        output = function(*args, **kwargs)
        for inputs in signals:
            bound = self._bound_of(function, args, kwargs, inputs, output)
            if bound is not None:
                return self._rectified(inputs, bound)
        self._note(function, args, output)
        return output

    def _written(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call that writes into its first argument, such as `x[x < 0] = 0`."""
        before = args[0].clone()
        written = before.clone()
        output = function(written, *args[1:], **kwargs)
        bound = self._bound_of(function, args, kwargs, args[0], written) if args[0].requires_grad else None
        if bound is None:
            self._note(function, args, written)
        else:
            written = self._rectified(before, bound)
        args[0].copy_(written)
        return None if output is None else args[0]

    def _bound_of(
        self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Tensor, output: Any
    ) -> float | None:
        """Return the bound if a call is a ReLU of `inputs`, as its values and derivative at other numbers show."""
        if _bound(inputs, output) is None:
            return None
        call = self._made(output, function, args, kwargs)
        bounds = set()
        for numbers in _trials(inputs):
            start = numbers.requires_grad_(True)
            try:
                tried = call.again(inputs, start.clone())
                bound = _bound(start, tried)
                bounds.add(bound if bound is not None and _has_derivative(start, tried, bound) else None)
            except _FAILURES:
                return None
        bound = bounds.pop() if len(bounds) == 1 else None
        same = bound is not None and torch.equal(output, inputs.detach().clamp(0, bound))
        return bound if same else None

    def _made(
        self, tensor: Tensor, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], place: int = 0
    ) -> "_Made":
        """Return how a tensor was made, also from tensors that were made themselves."""
        args, kwargs = tree_map(lambda leaf: self.made.get(id(leaf), leaf), (args, kwargs))
        return _Made(tensor, function, args, kwargs, place)

    def _other(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = function(*args, **kwargs)
        self._note(function, args, output)
        return output

    def _note(self, function: Call, args: tuple[Any, ...], output: Any) -> None:
        if any(tensor.requires_grad for tensor in tensors_in(output)) and not _pools(function, args, output):
            self.others.add(function.__name__.strip("_"))

    def _rectified(self, inputs: Tensor, bound: float) -> Tensor:
        self.count += 1
        output: Tensor = _Rectifier.apply(inputs, bound, self.rule)
        return output


@dataclass(frozen=True)
class _Made:
    """A tensor that a call returned, or wrote into its first argument.

    Args:
        tensor: the tensor.
        function: the function called.
        args: its arguments; a `_Made` stands for a tensor that was made itself.
        kwargs: its named arguments, likewise.
        place: index of the tensor among those returned.
    """

    tensor: Tensor
    function: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int

    def again(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the tensor as it would be with `new` in the place of `old`."""

        def replaced(leaf: Any) -> Any:
            return leaf.again(old, new) if isinstance(leaf, _Made) else new if leaf is old else leaf

        args, kwargs = tree_map(replaced, (self.args, self.kwargs))
        if not _overwrites(self.function, args):
            return list(tensors_in(self.function(*args, **kwargs)))[self.place]
        written: Tensor = args[0].clone()
        self.function(written, *args[1:], **kwargs)
        return written


def _counts(tensor: Tensor) -> bool:
    """Return whether a tensor holds whole numbers, such as the places that an index takes."""
    return not tensor.is_floating_point() and tensor.dtype != torch.bool


def _overwrites(function: Call, args: tuple[Any, ...]) -> bool:
    return bool(args) and (writes(function) or function.__name__ in _WRITING)


def _trials(inputs: Tensor) -> list[Tensor]:
    """Return tensors like the inputs, of numbers of both signs and many sizes, drawn alike in every run."""
    stream = generator(0, "rectifiers")
    numbers = torch.tensor(_NUMBERS, dtype=inputs.dtype, device="cpu")
    rounds = max(2, 8 * len(numbers) // max(1, inputs.numel()))
    draws = [torch.randint(len(numbers), inputs.shape, generator=stream, device="cpu") for _ in range(rounds)]
    return [numbers[draw].to(inputs.device) for draw in draws]


def _is_nonlinear(function: Call, args: tuple[Any, ...], signals: list[Tensor]) -> bool:
    """Return whether a call may be a ReLU or another activation."""
    if function in _NO_ACTIVATION or function.__name__ in ("__get__", "__set__"):
        return False
    if function in QUOTIENTS and isinstance(args[-1], Tensor) and args[-1].requires_grad:
        return True
    return function not in _BILINEAR or len(signals) > 1


def _pools(function: Call, args: tuple[Any, ...], output: Any) -> bool:
    """Return whether a call takes the largest value of each channel of (N, C, h, w)."""
    largest = next(tensors_in(output))
    return function in LARGEST and args[0].ndim == 4 and largest.shape[:2].numel() == largest.numel()


def _with(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], old: Tensor, new: Tensor) -> Any:
    """Return the output of a call with one tensor replaced."""
    new_args, new_kwargs = tree_map(lambda leaf: new if leaf is old else leaf, (args, kwargs))
    with torch.no_grad():
        return function(*new_args, **new_kwargs)


def _bound(inputs: Tensor, output: Any) -> float | None:
    """Return the bound if output is min(max(inputs, 0), bound), infinity without one; None if it is anything else."""
    if not isinstance(output, Tensor) or output.shape != inputs.shape or output.dtype != inputs.dtype:
        return None
    rectified, output = inputs.detach().clamp_min(0), output.detach()
    if torch.equal(output, rectified):
        return torch.inf
    bound = float(output.max())
    return bound if bound > 0 and torch.equal(output, rectified.clamp_max(bound)) else None


def _has_derivative(inputs: Tensor, output: Tensor, bound: float) -> bool:
    """Return whether autograd's derivative is that of the ReLU, apart from its kink."""
    ones = torch.ones_like(output)
    (derivative,) = torch.autograd.grad(output, inputs, ones, retain_graph=True, allow_unused=True)
    values = inputs.detach()
    passes = ((values > 0) & (values < bound)).to(values.dtype)
    return derivative is not None and torch.equal(torch.where(values == 0, passes, derivative), passes)


class _Rectifier(torch.autograd.Function):
    """A ReLU with a modified backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, high: float, rule: _Rule) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward((inputs > 0) & (inputs < high))
        return inputs.clamp(min=0, max=None if high == torch.inf else high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (between_bounds,) = ctx.saved_tensors
        if not ctx.rule.started:
            return gradient * between_bounds, None, None
        rectified = gradient.clamp(min=0)
        return rectified if ctx.rule.by == "deconvolution" else rectified * between_bounds, None, None
