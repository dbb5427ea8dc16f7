"""Backward passes with a modified ReLU rule, for deconvolution and guided backpropagation.

    gradient        R = g * [x > 0]
    deconvolution   R = g * [g > 0]
    guided          R = g * [x > 0] * [g > 0]

For a ReLU with an upper bound, such as ReLU6 or a clamp from zero, [x > 0] means that x lies between both bounds. The
probe sees each call of a ReLU, so modules, functions, reused and in-place ReLUs are covered; any other operation uses
its gradient.

Shapes: g, x and R have the same shape.
Source: Springenberg et al., 2015, arXiv:1412.6806, figure 1.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.model.torch_functions import CLAMPS, HARDTANHS, LEAKY_ACTIVATIONS, RELUS, Call, named
from xaikit.run.batch import Batch

Rectification = Literal["deconvolution", "guided"]


def rectified_gradients(batch: Batch, by: Rectification, method: str) -> tuple[Tensor, list[set[str]]]:
    """Return the modified gradient at the input (n, C, H, W), and one set of flags per image.

    Args:
        batch: the images.
        by: rule at each ReLU.
        method: name of the method, for messages.

    Returns:
        The values and the flags; `not-only-relu` marks a network in which other activations use their gradient.

    Raises:
        BadInput: the network has no ReLU.
    """
    rectifiers = _Rectifiers(by)
    with torch.enable_grad(), batch.classifier.probe() as probe:
        probe.rule(RELUS | HARDTANHS | named("relu6") | CLAMPS, rectifiers.rectify)
        probe.observe(None, rectifiers.note)
        values = batch.input_gradients_anew()
    if not rectifiers.count:
        others = ", ".join(sorted(rectifiers.others)) or "no activations at all"
        raise BadInput(
            f"{method}: expected a network with ReLUs, got {others}; it would equal the plain gradient: use saliency"
        )
    flags = {"not-only-relu"} if rectifiers.others else set()
    return values, [set(flags) for _ in range(len(batch))]


@dataclass
class _Rectifiers:
    """The rule on every ReLU of a forward, the number of ReLU calls, and the names of other activations."""

    by: Rectification
    count: int = 0
    others: set[str] = field(default_factory=set)

    def rectify(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _parsed(function, args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        if call.min_val != 0 or call.max_val <= 0:
            self.others.add(_name(function))
            return function(*args, **kwargs)
        self.count += 1
        output = _Rectifier.apply(call.input, call.max_val, self.by)
        return call.input.copy_(output) if call.inplace else output

    def note(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if function in LEAKY_ACTIVATIONS:
            self.others.add(_name(function))


def _name(function: Call) -> str:
    return function.__name__.rstrip("_")


class _Relu(NamedTuple):
    """The arguments of `F.relu`, and its bounds."""

    input: Tensor
    inplace: bool = False
    min_val: float = 0.0
    max_val: float = torch.inf


class _Hardtanh(NamedTuple):
    """The arguments of `F.hardtanh`, which ReLU6 modules call."""

    input: Tensor
    min_val: float = -1.0
    max_val: float = 1.0
    inplace: bool = False


def _parsed(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Relu | _Hardtanh | None:
    """Return a call's arguments; None for a clamp whose lower bound is not zero, which is not an activation."""
    if function in HARDTANHS:
        return _Hardtanh(*args, **kwargs)
    if function in CLAMPS:
        low, high = (args[index] if len(args) > index else kwargs.get(name) for index, name in ((1, "min"), (2, "max")))
        bounded = isinstance(low, int | float) and low == 0 and (high is None or isinstance(high, int | float))
        return _Relu(args[0], max_val=torch.inf if high is None else high) if bounded else None
    call = _Relu(*args, **kwargs)
    return call._replace(max_val=6.0) if function is F.relu6 else call


class _Rectifier(torch.autograd.Function):
    """A ReLU with a modified backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, high: float, by: Rectification) -> Tensor:
        if by == "guided":
            ctx.save_for_backward((inputs > 0) & (inputs < high))
        return inputs.clamp(min=0, max=None if high == torch.inf else high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rectified = gradient.clamp(min=0)
        for between_bounds in ctx.saved_tensors:
            rectified = rectified * between_bounds
        return rectified, None, None
