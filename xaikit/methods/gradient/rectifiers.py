"""Rectifiers: what a ReLU hands back, by a rule instead of its derivative.

    gradient        R = g * [x > 0]
    deconvolution   R = g * [g > 0]
    guided          R = g * [x > 0] * [g > 0]

For a ReLU with an upper bound, such as ReLU6, [x > 0] stands for x between both bounds; a clamp from zero is one. The
probe sees ReLUs one call at a time, so modules, functions, reused and in-place ones are all met; any other operation
hands back its gradient.

Shapes: g, x and R alike.
Source: Springenberg et al., 2015, arXiv:1412.6806, figure 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.model.hooks import Probe
from xaikit.model.torch_functions import CLAMPS, HARDTANHS, LEAKY_ACTIVATIONS, RELUS, Call, named
from xaikit.run.batch import Batch

Rectification = Literal["deconvolution", "guided"]


def rectified_gradients(batch: Batch, by: Rectification, method: str) -> tuple[Tensor, list[set[str]]]:
    """Return what comes back to the input (n, C, H, W), and one set of flags an image.

    Args:
        batch: of images.
        by: the rule at each ReLU.
        method: its name, for messages.

    Returns:
        The values; the flag `not-only-relu` says that other activations handed back their gradient.

    Raises:
        BadInput: the network has no ReLU.
    """
    rectifiers = _Rectifiers(by)
    with torch.enable_grad(), batch.classifier.probe() as probe:
        rectifiers.install(probe)
        values = batch.input_gradients_anew()
    if not rectifiers.met:
        others = ", ".join(sorted(rectifiers.others)) or "no activations at all"
        raise BadInput(
            f"{method}: expected a network with ReLUs, got {others}; there it is the plain gradient: use saliency"
        )
    flags = {"not-only-relu"} if rectifiers.others else set()
    return values, [set(flags) for _ in range(len(batch))]


@dataclass
class _Rectifiers:
    """The rule on every ReLU of a forward, and which activations were met."""

    by: Rectification
    met: int = 0
    others: set[str] = field(default_factory=set)

    def install(self, probe: Probe) -> None:
        probe.rule(RELUS | HARDTANHS | named("relu6") | CLAMPS, self._rectify)
        probe.observe(None, self._note)

    def _rectify(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _call(function, args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        if call.min_val != 0 or call.max_val <= 0:
            self.others.add(_name(function))
            return function(*args, **kwargs)
        self.met += 1
        output = _Rectifier.apply(call.input, call.max_val, self.by)
        return call.input.copy_(output) if call.inplace else output

    def _note(self, function: Call, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if function in LEAKY_ACTIVATIONS:
            self.others.add(_name(function))


def _name(function: Call) -> str:
    return function.__name__.rstrip("_")


class _Relu(NamedTuple):
    """The arguments of a call of `F.relu`, and what its bounds are."""

    input: Tensor
    inplace: bool = False
    min_val: float = 0.0
    max_val: float = torch.inf


class _Hardtanh(NamedTuple):
    """The arguments of a call of `F.hardtanh`, through which ReLU6 modules go."""

    input: Tensor
    min_val: float = -1.0
    max_val: float = 1.0
    inplace: bool = False


def _call(function: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Relu | _Hardtanh | None:
    """Return a call's arguments; None for a clamp that does not begin at zero, which is no activation."""
    if function in HARDTANHS:
        return _Hardtanh(*args, **kwargs)
    if function in CLAMPS:
        low, high = (args[place] if len(args) > place else kwargs.get(name) for place, name in ((1, "min"), (2, "max")))
        bounded = isinstance(low, int | float) and low == 0 and (high is None or isinstance(high, int | float))
        return _Relu(args[0], max_val=torch.inf if high is None else high) if bounded else None
    call = _Relu(*args, **kwargs)
    return call._replace(max_val=6.0) if function is F.relu6 else call


class _Rectifier(torch.autograd.Function):
    """A ReLU that hands back relevance by a rule."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, high: float, by: Rectification) -> Tensor:
        if by == "guided":
            ctx.save_for_backward((given > 0) & (given < high))
        return given.clamp(min=0, max=None if high == torch.inf else high)

    @staticmethod
    def backward(ctx: Any, coming: Tensor) -> tuple[Tensor, None, None]:
        passed = coming.clamp(min=0)
        for inside in ctx.saved_tensors:
            passed = passed * inside
        return passed, None, None
