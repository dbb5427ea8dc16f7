"""Which architecture weights belong to, guessed from names and shapes: for the message when they do not fit.

families        torchvision's files, the CIFAR ResNets, LeNet-5, TextureCNN
first           the family whose first member shares most key patterns (`features.#.weight`) with the state dict
then            its member that shares most (key, shape) pairs, if that is 80 % of each side's, or more
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import cache
from itertools import groupby

import torchvision.models as tv
from torch import Tensor, nn

from xaikit.zoo.architectures.cifar_resnet import CifarResNet
from xaikit.zoo.blank import blank
from xaikit.zoo.catalogue import CIFAR_DEPTHS
from xaikit.zoo.registry import architecture

__all__ = ["recognise"]

_ALIKE = 0.5
_ENOUGH = 0.8


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the known architecture that a state dict looks like, or None."""
    patterns, pairs = _patterns(state), _pairs(state)
    alike = [names for names in _families() if _overlap(_patterns(_state(names[0])), patterns) >= _ALIKE]
    shares = {name: _overlap(_pairs(_state(name)), pairs) for names in alike for name in names}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] >= _ENOUGH else None


def _families() -> list[list[str]]:
    names = sorted(tv.list_models(module=tv), key=_home)
    return [["lenet5"], ["texture-cnn"], list(CIFAR_DEPTHS), *(list(group) for _, group in groupby(names, key=_home))]


def _home(name: str) -> str:
    return str(tv.get_model_builder(name).__module__)


@cache
def _state(name: str) -> Mapping[str, Tensor]:
    return blank(lambda: _build(name)).state_dict()


def _build(name: str) -> nn.Module:
    if name in CIFAR_DEPTHS:
        return CifarResNet(CIFAR_DEPTHS[name])
    kind = architecture(name)
    return kind.build(10, kind.channels, kind.size)


def _patterns(state: Mapping[str, Tensor]) -> Set[str]:
    return {re.sub(r"\d+", "#", key) for key in state}


def _pairs(state: Mapping[str, Tensor]) -> Set[tuple[str, tuple[int, ...]]]:
    return {(key, tuple(tensor.shape)) for key, tensor in state.items() if tensor.ndim}


def _overlap(one: Set[object], other: Set[object]) -> float:
    return len(one & other) / max(1, len(one), len(other))
