"""The catalogue: every model name that `load` knows, and what is known of it. Needs no torch.

models/pretrained.toml             torchvision's networks, downloadable: weights, size, licence, layer
models/<name>/recipe.toml          shipped networks
cifar-resnet20, 32, 44, 56, 110    weights come from a file
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from xaikit.foundation.files import shipped

__all__ = ["CIFAR_DEPTHS", "KnownModel", "Source", "models", "shipped_names"]

Source = Literal["shipped", "cifar", "torchvision"]

CIFAR_DEPTHS = {f"cifar-resnet{depth}": depth for depth in (20, 32, 44, 56, 110)}


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model before it is loaded.

    Args:
        name: what `load` takes.
        source: where its weights come from: inside the package, from a file, or by torchvision's download.
        weights: the torchvision weights that "DEFAULT" means; empty for the others.
        size: side of the square input.
        licence: of the weights, by its SPDX name; empty where they come from a file.
        layer: target layer where the automatic one is not wanted; empty otherwise.
    """

    name: str
    source: Source
    size: int
    weights: str = ""
    licence: str = ""
    layer: str = ""


@cache
def models() -> dict[str, KnownModel]:
    """Return every known model by name: shipped ones, CIFAR ResNets, torchvision's."""
    known = [_shipped(name) for name in shipped_names()]
    known += [KnownModel(name, "cifar", 32) for name in CIFAR_DEPTHS]
    facts = tomllib.loads(shipped("models/pretrained.toml").read_text(encoding="utf-8"))
    known += [KnownModel(name, "torchvision", **values) for name, values in facts.items()]
    return {model.name: model for model in known}


def shipped_names() -> list[str]:
    """Return the names of the networks inside the package."""
    return sorted(recipe.parent.name for recipe in shipped("models").glob("*/recipe.toml"))


def _shipped(name: str) -> KnownModel:
    recipe = tomllib.loads((shipped("models") / name / "recipe.toml").read_text(encoding="utf-8"))
    return KnownModel(name, "shipped", recipe["size"], licence="Apache-2.0")
