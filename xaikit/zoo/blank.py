"""Networks before their weights come: built in no time, or drawn once from a fixed seed.

blank(build)       shapes only: weights lie on the meta device, nothing is drawn
drawn(build)       random weights of seed 0; torch's global generator is given back
classes_of(...)    how many classes a state dict's head has, found by building the network for 2 and for 3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones})


class _Weightless(TorchFunctionMode):
    """Makes the tensors that layers fill on the meta device; what an architecture computes with stays as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def blank(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network with every weight on the meta device, in eval mode."""
    with _Weightless():
        return build().eval()


def drawn(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network with the random weights of seed 0, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return build().eval()


def classes_of(state: Mapping[str, Tensor], build: Callable[[int], nn.Module]) -> int | None:
    """Return the number of classes that a state dict was trained for, or None where it has no such head.

    Args:
        state: names to tensors.
        build: number of classes to network.
    """
    two, three = blank(lambda: build(2)).state_dict(), blank(lambda: build(3)).state_dict()
    for key, sides, others in ((key, two[key].shape, three[key].shape) for key in two):
        if sides != others and key in state and state[key].ndim == len(sides):
            return next(got for got, one, other in zip(state[key].shape, sides, others, strict=True) if one != other)
    return None
