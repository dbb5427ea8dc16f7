"""Generation of registered `Method` classes from the classes of other packages.

    class -> a frozen dataclass, whose fields are the parameters of the constructor and of the call

Parameters keep their names, except `method`, which `xaikit.attribute` already uses and which becomes `quadrature`.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, make_dataclass
from importlib.metadata import version
from types import ModuleType
from typing import Any

from xaikit.backends.foreign_method import OUR_WORDS, Guest
from xaikit.extend import METHODS
from xaikit.foundation.errors import MissingExtra

_AS_OURS = {"x-grad-cam": "xgrad-cam", "hi-res-cam": "hires-cam"}


def guest_package(name: str, distribution: str) -> ModuleType:
    """Return another package's module.

    Args:
        name: name of the module.
        distribution: name of the distribution that installs it.

    Raises:
        MissingExtra: the package is not installed.
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
    """Return the named parameters of a function with their defaults; None for parameters without a default.

    Args:
        function: constructor or call of another package's class.
        without: parameters to leave out because xaikit sets them, such as model, layer and target.
    """
    excluded = {"self", *without}
    return {
        item.name: None if item.default is item.empty else item.default
        for item in inspect.signature(inspect.unwrap(function)).parameters.values()
        if item.name not in excluded and item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    }


def required(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters that have no default."""
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    named = (item for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD and item.name != "self")
    return [item.name for item in named if item.default is item.empty]


def behind(
    base: type[Guest],
    theirs: Any,
    name: str,
    distribution: str,
    made_with: Mapping[str, Any],
    called_with: Mapping[str, Any],
    **facts: Any,
) -> None:
    """Generate and register the `Method` of a class of another package.

    Args:
        base: class of ours that runs `theirs`.
        theirs: class of the other package.
        name: name in the registry.
        distribution: distribution of the package, named with its version in `source`.
        made_with: parameters of the constructor with their defaults.
        called_with: parameters of the call with their defaults.
        **facts: class attributes such as family, needs and signed.
    """
    declared = {
        "__doc__": f"{theirs.__qualname__} of {distribution}, with the same parameters.",
        "name": name,
        "source": f"{distribution} {version(distribution)}, {theirs.__module__}.{theirs.__qualname__}",
        "theirs": theirs,
        "made_with": tuple(made_with),
        "called_with": tuple(called_with),
    }
    defaults = {**made_with, **called_with}
    fields = [(OUR_WORDS.get(key, key), Any, field(default=value)) for key, value in defaults.items()]
    kind = make_dataclass(theirs.__qualname__, fields, bases=(base,), namespace=declared | facts, frozen=True)
    kind.__module__ = base.__module__
    METHODS.register(kind)
