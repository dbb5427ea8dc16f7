"""torchvision's classification networks, for any number of classes and input channels.

Source: torchvision.models, with its names and builders.
Departs from source: no auxiliary heads, which are used in training only; for other than 3 input channels the first
    convolution is replaced.
"""

from functools import partial
from typing import Any

import torchvision.models as tv
from torch import nn

from xaikit.foundation.errors import BadInput
from xaikit.zoo.registry import register_architecture

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_SIZES = {"inception_v3": 299}


def build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """Return a network with random weights.

    Args:
        name: torchvision's name of the network.
        classes: number of logits.
        channels: number of input channels.
        size: side of the square input, used by vision transformers alone: torchvision's CNNs take any size.

    Raises:
        BadInput: `channels` is not 3 and the network's first convolution is grouped.
    """
    options: dict[str, Any] = {"aux_logits": False, "init_weights": False} if name in _WITH_AUXILIARY_HEADS else {}
    if name.startswith("vit_"):
        options = {"image_size": size}
    network: nn.Module = tv.get_model(name, weights=None, num_classes=classes, **options)
    return network if channels == 3 else with_input_channels(network, channels)


def with_input_channels(network: nn.Module, channels: int) -> nn.Module:
    """Return the network with its first convolution replaced by one for `channels` input channels.

    Raises:
        BadInput: the first convolution is grouped.
    """
    path, first = next((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    if first.groups != 1:
        raise BadInput(f"channels: expected a first convolution without groups, got {first}; use 3 channels")
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


for _name in tv.list_models(module=tv):
    register_architecture(_name, size=_SIZES.get(_name, 224))(partial(build, _name))
