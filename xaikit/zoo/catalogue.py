"""The catalogue: every model name that `load` knows, and what is known of it.

models/pretrained.toml             torchvision's networks, downloadable: weights, size, licence, layer
models/<name>/recipe.toml          shipped networks
zoo/architectures/*.py             weights come from a file
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Literal

from xaikit.foundation.files import package_data
from xaikit.zoo.registry import architectures

Source = Literal["shipped", "file", "torchvision"]


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
    """Return every known model by name: shipped ones, those with weights from a file, torchvision's."""
    facts = tomllib.loads(package_data("models/pretrained.toml").read_text(encoding="utf-8"))
    known = {name: _shipped(name) for name in shipped_names()}
    downloaded = {name: KnownModel(name, "torchvision", **values) for name, values in facts.items()}
    for kind in architectures().values():
        if kind.name not in (known | downloaded):
            known[kind.name] = KnownModel(kind.name, "file", kind.size)
    return known | downloaded


def shipped_names() -> list[str]:
    """Return the names of the networks inside the package."""
    return sorted(recipe.parent.name for recipe in package_data("models").glob("*/recipe.toml"))


def _shipped(name: str) -> KnownModel:
    recipe = tomllib.loads((package_data("models") / name / "recipe.toml").read_text(encoding="utf-8"))
    return KnownModel(name, "shipped", recipe["size"], licence="Apache-2.0")
