"""The catalogue: every model name that `load` knows, with its facts.

models/pretrained.toml             torchvision's networks with downloadable weights: weights, size, licence, layer
models/<name>/recipe.toml          networks shipped with the package
zoo/architectures/*.py             networks with weights from a file

Names that begin with timm/ or transformers/ are looked up in these packages, which are imported only then.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from xaikit.foundation.files import package_data
from xaikit.zoo.registry import architectures

TIMM = "timm/"
TRANSFORMERS = "transformers/"

Source = Literal["shipped", "file", "torchvision"]


@dataclass(frozen=True)
class KnownModel:
    """What is known about a model before it is loaded.

    Args:
        name: name for `load`.
        source: origin of the weights: shipped with the package, a file, or torchvision's download.
        size: side of the square input, in pixels.
        weights: name of torchvision's DEFAULT weights; empty for other sources.
        licence: SPDX name of the weights' licence; empty if they come from a file.
        layer: target layer that replaces the automatic one; empty for the automatic one.
    """

    name: str
    source: Source
    size: int
    weights: str = ""
    licence: str = ""
    layer: str = ""


@cache
def models() -> dict[str, KnownModel]:
    """Return every known model by name: shipped, with weights from a file, torchvision's."""
    facts = tomllib.loads(package_data("models/pretrained.toml").read_text(encoding="utf-8"))
    known = {name: _shipped(name) for name in shipped_names()}
    downloaded = {name: KnownModel(name, "torchvision", **values) for name, values in facts.items()}
    for name, kind in architectures().items():
        if name not in known and name not in downloaded:
            known[name] = KnownModel(name, "file", kind.size)
    return known | downloaded


def is_of_package(name: str) -> bool:
    """Return whether a name is to be looked up in timm or transformers."""
    return name.startswith((TIMM, TRANSFORMERS))


def is_of_file(name: str) -> bool:
    """Return whether a name is that of a function in a Python file, such as mine.py:build."""
    file, _, function = name.rpartition(":")
    return file.endswith(".py") and function.isidentifier()


def title(name: str | Path) -> str:
    """Return the name of a model for reports: a folder's is its last part, so that no path stands in results."""
    text = str(name)
    if text in models() or (is_of_package(text) and not Path(text.removeprefix(TRANSFORMERS)).is_dir()):
        return text
    return Path(text).resolve().name


def shipped_names() -> list[str]:
    """Return the names of the networks shipped with the package."""
    return sorted(recipe.parent.name for recipe in package_data("models").glob("*/recipe.toml"))


def _shipped(name: str) -> KnownModel:
    recipe = tomllib.loads((package_data("models") / name / "recipe.toml").read_text(encoding="utf-8"))
    return KnownModel(name, "shipped", recipe["size"], licence="Apache-2.0")
