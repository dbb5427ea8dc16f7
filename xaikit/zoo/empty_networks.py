"""Networks without trained weights: with shapes only, or with random weights of a fixed seed.

blank(build)       shapes only: weights on the meta device, no random draws
drawn(build)       random weights of seed 0; the state of torch's global generator is restored
untrained(build)   the same, with logits that depend on the image
classes_of(...)    number of classes of a state dict's head, found by building the network for 2 and for 3 classes
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones})


class _Weightless(TorchFunctionMode):
    """Creates the tensors that layers initialise on the meta device; all other tensors stay real."""

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


def untrained(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network with the random weights of seed 0, in eval mode, and no linear layer of zeros.

    torchvision's vision transformers begin with a head of zeros, so that no logit would depend on the image.
    """

    def without_zeros() -> nn.Module:
        network = build()
        for module in network.modules():
            if isinstance(module, nn.Linear) and not module.weight.any():
                module.reset_parameters()
        return network

    return drawn(without_zeros)


def classes_of(state: Mapping[str, Tensor], build: Callable[[int], nn.Module]) -> int | None:
    """Return the number of classes that a state dict was trained for, or None if it has no matching head.

    Args:
        state: tensors by name.
        build: returns the network for a number of classes.
    """
    two, three = blank(lambda: build(2)).state_dict(), blank(lambda: build(3)).state_dict()
    for key, two_shape, three_shape in ((key, two[key].shape, three[key].shape) for key in two):
        if two_shape != three_shape and key in state and state[key].ndim == len(two_shape):
            sizes = zip(state[key].shape, two_shape, three_shape, strict=True)
            return next(size for size, of_two, of_three in sizes if of_two != of_three)
    return None
