"""Generation: from another package's class to a registered `Method`, by its signatures.

    their class -> a frozen dataclass: name from theirs, fields from the parameters of constructor and call

Parameters keep their names, but for `method`, which is `quadrature` here, because `xaikit.attribute` has taken it.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, make_dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any

from xaikit.backends.guest import OUR_WORDS, Guest
from xaikit.extend import METHODS
from xaikit.foundation.errors import MissingExtra

_AS_OURS = {"x-grad-cam": "xgrad-cam", "hi-res-cam": "hires-cam"}


def guest_package(name: str, distribution: str) -> ModuleType:
    """Import another package.

    Args:
        name: of the module.
        distribution: what installs it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(distribution, "backends") from error


def method_name(package: str, name: str) -> str:
    """Return the registry name of a class, such as `torchcam/grad-cam-plus-plus` for GradCAMpp."""
    spelled = re.sub("pp$", "PlusPlus", name).replace("CAM", "-Cam-").replace("_", "-")
    words = re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", spelled).lower()
    plain = re.sub("-+", "-", words).strip("-")
    return f"{package}/{_AS_OURS.get(plain, plain)}"


def parameters(function: Callable[..., Any], without: Iterable[str]) -> dict[str, Any]:
    """Return the named parameters of one of their functions with their defaults, None where there is none.

    Args:
        function: constructor or call.
        without: those that are ours to give, such as model, layer and target.
    """
    left_out = {"self", *without}
    found = inspect.signature(inspect.unwrap(function)).parameters.values()
    return {
        one.name: None if one.default is one.empty else one.default
        for one in found
        if one.name not in left_out and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    }


def required(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters that have no default."""
    found = inspect.signature(inspect.unwrap(function)).parameters.values()
    named = (one for one in found if one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self")
    return [one.name for one in named if one.default is one.empty]


def behind(
    base: type[Guest],
    theirs: Any,
    name: str,
    distribution: str,
    made_with: Mapping[str, Any],
    called_with: Mapping[str, Any],
    **facts: Any,
) -> None:
    """Generate the `Method` of one of their classes and register it.

    Args:
        base: runs it.
        theirs: the class.
        name: in the registry.
        distribution: of their package, whose version stands in the source.
        made_with: parameters of the constructor with their defaults.
        called_with: parameters of the call with their defaults.
        **facts: class attributes such as family, needs and signed.
    """
    source = f"{distribution} {version(distribution)}, {theirs.__module__}.{theirs.__qualname__}"
    declared = {
        "__doc__": f"{theirs.__qualname__} of {distribution}; its parameters are theirs.",
        "name": name,
        "source": source,
        "theirs": theirs,
        "made_with": tuple(made_with),
        "called_with": tuple(called_with),
    }
    taken = {**made_with, **called_with}
    fields = [(OUR_WORDS.get(key, key), Any, field(default=value)) for key, value in taken.items()]
    kind = make_dataclass(theirs.__qualname__, fields, bases=(base,), namespace=declared | facts, frozen=True)
    kind.__module__ = base.__module__
    METHODS.register(kind)
