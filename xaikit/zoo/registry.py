"""Architectures by name: each file of `architectures/` registers what it builds.

    @register_architecture("lenet5", channels=1, size=32)
    def lenet5(classes: int, channels: int, size: int) -> nn.Module: ...

    architecture("lenet5").build(10, 1, 32)

Own architectures have kebab-case names, torchvision's classification networks have torchvision's.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from xaikit.foundation.errors import BadInput, UnknownName

Build = Callable[[int, int, int], nn.Module]
"""(classes, channels, size) to a network with random weights, drawn from torch's global generator."""

_ARCHITECTURES: dict[str, Architecture] = {}
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network without weights, and the defaults for weights that come from a file.

    Args:
        name: what `load` and recipes call it.
        build: (classes, channels, size) to a network.
        channels: of the input.
        size: side of the square input.
        labels: names of the classes; used where the weights have as many.
        mean: per channel.
        std: per channel.
    """

    name: str
    build: Build
    channels: int = 3
    size: int = 224
    labels: Sequence[str] = ()
    mean: Sequence[float] = _IMAGENET_MEAN
    std: Sequence[float] = _IMAGENET_STD


def register_architecture(
    name: str,
    *,
    channels: int = 3,
    size: int = 224,
    labels: Sequence[str] = (),
    mean: Sequence[float] = _IMAGENET_MEAN,
    std: Sequence[float] = _IMAGENET_STD,
) -> Callable[[Build], Build]:
    """Return a decorator that registers what builds an architecture; the arguments are those of `Architecture`.

    Raises:
        BadInput: the name is taken.
    """

    def register(build: Build) -> Build:
        if name in _ARCHITECTURES:
            raise BadInput(f"architecture {name!r}: expected a new name, got one that exists; rename it")
        _ARCHITECTURES[name] = Architecture(name, build, channels, size, labels, mean, std)
        return build

    return register


def architectures() -> dict[str, Architecture]:
    """Return every architecture by name."""
    package = importlib.import_module("xaikit.zoo.architectures")
    for module in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}."):
        importlib.import_module(module.name)
    return dict(_ARCHITECTURES)


def architecture(name: str) -> Architecture:
    """Return the architecture of a name.

    Raises:
        UnknownName: no such architecture; the message has the nearest names.
    """
    known = architectures()
    if name not in known:
        raise UnknownName("architecture", name, known, "take lenet5, texture-cnn, cifar-resnet20 or a torchvision name")
    return known[name]
