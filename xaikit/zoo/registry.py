"""Architectures by name: each file of `architectures/` registers its own.

    @register_architecture("lenet5", channels=1, size=32)
    def lenet5(classes: int, channels: int, size: int) -> nn.Module: ...

    architecture("lenet5").build(10, 1, 32)

xaikit's architectures have kebab-case names; torchvision's classification networks keep torchvision's names, and those
of timm are "timm/NAME".
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from xaikit.foundation.errors import BadInput, UnknownName

Build = Callable[[int, int, int], nn.Module]
"""Returns a network for (classes, channels, size), with random weights drawn from torch's global generator."""

_ARCHITECTURES: dict[str, Architecture] = {}
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network without weights, and the defaults for weights from a file.

    Args:
        name: name for `load` and recipes.
        build: returns a network for (classes, channels, size).
        channels: number of input channels.
        size: side of the square input, in pixels.
        labels: names of the classes, used if the weights have as many.
        mean: mean of each channel.
        std: standard deviation of each channel.
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
    """Return a decorator that registers a builder; the arguments are those of `Architecture`.

    Raises:
        BadInput: the name is taken.
    """

    def register(build: Build) -> Build:
        if name in _ARCHITECTURES:
            raise BadInput(f"architecture {name!r}: expected a new name, got one that exists")
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
    """Return the architecture called `name`.

    Raises:
        UnknownName: there is no such architecture; the message suggests similar names.
    """
    if name.startswith("timm/"):
        return _of_timm(name)
    known = architectures()
    if name not in known:
        raise UnknownName(
            "architecture",
            name,
            known,
            "use lenet5, texture-cnn, texture-vit, cifar-resnet20, a torchvision name or timm/NAME",
        )
    return known[name]


def _of_timm(name: str) -> Architecture:
    from xaikit.zoo.sources.timm import build, facts  # imports timm, where it is installed

    channels, size, mean, std = facts(name)
    return Architecture(name, partial(build, name), channels, size, mean=mean, std=std)
