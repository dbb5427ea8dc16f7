"""Networks by the name of their architecture, with random weights and a head for any number of classes.

    architecture("lenet5").build(classes=10, channels=1, size=32)

Own ones by their kebab-case name, torchvision's classification networks by torchvision's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torchvision.models as tv
from torch import nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.zoo.architectures.cifar_resnet import CifarResNet
from xaikit.zoo.architectures.lenet import LeNet5
from xaikit.zoo.architectures.texture_cnn import TextureCNN
from xaikit.zoo.catalogue import CIFAR_DEPTHS

__all__ = ["Architecture", "architecture", "architectures"]


@dataclass(frozen=True)
class Architecture:
    """What a network name stands for.

    Attributes:
        build: (classes, channels, size) to a network with random weights, drawn from torch's global generator.
        channels: channels of the input it was made for.
        size: side of the square input it was made for.
    """

    build: Callable[[int, int, int], nn.Module]
    channels: int = 3
    size: int = 224


def _cifar(depth: int) -> Architecture:
    return Architecture(lambda classes, channels, size: CifarResNet(depth, classes, channels), size=32)


_OWN = {
    "lenet5": Architecture(LeNet5, channels=1, size=32),
    "texture-cnn": Architecture(lambda classes, channels, size: TextureCNN(classes, channels), size=64),
    **{name: _cifar(depth) for name, depth in CIFAR_DEPTHS.items()},
}
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_SIZES = {"inception_v3": 299}


def architectures() -> list[str]:
    """Return every name that `architecture` knows, own ones first."""
    return [*_OWN, *tv.list_models(module=tv)]


def architecture(name: str) -> Architecture:
    """Return the architecture of a name.

    Raises:
        UnknownName: no such architecture; the message has the nearest names.
    """
    if name in _OWN:
        return _OWN[name]
    if name not in tv.list_models(module=tv):
        raise UnknownName(
            "architecture", name, architectures(), "take lenet5, texture-cnn, cifar-resnet20 or a torchvision name"
        )
    return Architecture(
        lambda classes, channels, size: _torchvision(name, classes, channels), size=_SIZES.get(name, 224)
    )


def _torchvision(name: str, classes: int, channels: int) -> nn.Module:
    options = {"aux_logits": False, "init_weights": False} if name in _WITH_AUXILIARY_HEADS else {}
    network: nn.Module = tv.get_model(name, weights=None, num_classes=classes, **options)
    return network if channels == 3 else _with_input_channels(network, channels)


def _with_input_channels(network: nn.Module, channels: int) -> nn.Module:
    """Put a convolution for `channels` in the place of the first one."""
    path, first = next((path, part) for path, part in network.named_modules() if isinstance(part, nn.Conv2d))
    if first.groups != 1:
        raise BadInput(f"expected a plain first convolution, got {first}; use 3 channels")
    parent, _, attribute = path.rpartition(".")
    convolution = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(network.get_submodule(parent), attribute, convolution)
    return network
