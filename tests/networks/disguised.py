"""Forms of a ReLU, and networks whose operations hide: scripted, checkpointed, compiled, in an autograd.Function."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.networks.variants import CLASSES


def scripted(function: Any) -> Any:
    """Return a function or module as TorchScript, which torch deprecates with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(function)


def traced(module: nn.Module, inputs: Tensor) -> Any:
    """Return a traced module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, inputs)


def frozen_script(module: nn.Module) -> Any:
    """Return a scripted module whose weights are constants."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.script(module))


class OwnRelu(torch.autograd.Function):
    """A ReLU by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0] > 0)


def _emptied(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] = 0
    return x


def _masked_in_place(x: Tensor) -> Tensor:
    x = x.clone()
    x *= x > 0
    return x


def _mask_written(x: Tensor) -> Tensor:
    mask = torch.zeros_like(x)
    mask[x > 0] = 1
    return x * mask


def _mask_of_steps(x: Tensor) -> Tensor:
    mask = x.detach() > -1
    mask &= x > 0
    return x * mask.to(x.dtype).mul_(2).sub_(1).clamp_(min=0)


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "threshold": nn.Threshold(0.0, 0.0),
    "threshold in place": nn.Threshold(0.0, 0.0, inplace=True),
    "threshold positional": lambda x: F.threshold(x, 0.0, 0.0, True),
    "clip": lambda x: x.clip(0),
    "clip min": lambda x: torch.clip(x, min=0.0),
    "clip in place": lambda x: x.clone().clip_(0),
    "clamp of input": lambda x: torch.clamp(input=x, min=0.0),
    "clamp by a tensor": lambda x: torch.clamp(x, min=torch.zeros((), dtype=x.dtype)),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum reversed": lambda x: torch.maximum(torch.zeros((), dtype=x.dtype), x),
    "fmax": lambda x: torch.fmax(x, x.new_zeros(())),
    "max": lambda x: torch.max(x, torch.zeros_like(x)),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where number": lambda x: torch.where(x < 0, 0.0, x),
    "method where": lambda x: x.where(x > 0, torch.zeros_like(x)),
    "mask": lambda x: x * (x > 0),
    "mask as floats": lambda x: (x > 0).to(x.dtype) * x,
    "mask as integers": lambda x: x * (x > 0).long(),
    "mask of both bounds": lambda x: x.mul((x > 0) & (x < 1e6)),
    "mask in place": _masked_in_place,
    "mask written": _mask_written,
    "mask of steps": _mask_of_steps,
    "mask of the larger": lambda x: x * torch.max(x.detach(), torch.zeros_like(x)).ne(0),
    "masked fill": lambda x: x.masked_fill(x < 0, 0.0),
    "masked assignment": _emptied,
    "leaky without leak": lambda x: F.leaky_relu(x, 0.0),
    "hardtanh from zero": nn.Hardtanh(0.0, float("inf")),
}
"""Single calls that are ReLUs."""

COMPOSED_RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean of x and |x|": lambda x: (x + x.abs()) / 2,
    "without its minimum": lambda x: x - x.clamp(max=0),
    "minimum of negatives": lambda x: -torch.minimum(-x, torch.zeros_like(x)),
    "largest of a stack": lambda x: torch.stack([x, torch.zeros_like(x)]).amax(0),
    "sign": lambda x: x * (x.sign() + 1) / 2,
    "autograd.Function": OwnRelu.apply,
}
"""ReLUs of several calls, or of none that a rule sees."""


def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def add_relu(x: Tensor, y: Tensor) -> Tensor:
    return torch.relu(x + y)


class Branches(nn.Module):
    """Two convolutions joined by a sum, with any functions for the activation and the joint."""

    def __init__(self, activation: Callable[[Tensor], Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1)
        self.fc = nn.Linear(5, CLASSES)
        self.activation, self.join = activation, join

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv1(x))
        return self.fc(self.join(x, self.conv2(x)).mean((2, 3)))


class Checkpointed(nn.Module):
    """Two bodies that a checkpoint runs again in the backward.

    Args:
        reentrant: kind of the checkpoint; None runs the bodies without.
    """

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for part in (self.body, self.last):
            x = part(x) if self.reentrant is None else checkpoint(part, x, use_reentrant=self.reentrant)
        return self.fc(x.mean((2, 3)))
