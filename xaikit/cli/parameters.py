"""Parses `--param [method.]key=value` into checked parameters for each method.

steps=100                       for every method with the parameter `steps`
integrated-gradients.steps=100  for one method
value                           a TOML value (1, 0.5, true, [8, 8], "soft"), none, or plain text
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.foundation.foreign_keywords import our_keyword

if TYPE_CHECKING:
    from xaikit.methods.base import Method


def parameters(texts: Iterable[str], kinds: Sequence[type[Method]]) -> dict[str, dict[str, Any]]:
    """Return the parameters of each method, by method name.

    Args:
        texts: values of `--param`.
        kinds: classes of the requested methods.

    Raises:
        BadInput: a text is not `key=value`, no method has the key, its method is not requested, or the value is wrong.
    """
    result: dict[str, dict[str, Any]] = {kind.name: {} for kind in kinds}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadInput(f"--param: expected [method.]key=value, for example steps=100, got {text!r}")
        method, dot, name = key.rpartition(".")
        method = _registered(method) if dot else method
        if dot and method not in result:
            raise BadInput(str(UnknownName("method in --param", method, result, f"requested: {', '.join(result)}")))
        candidates = [kind for kind in kinds if not dot or kind.name == method]
        takers = [kind for kind in candidates if name in kind.parameter_names()]
        if not takers:
            known = sorted({parameter for kind in candidates for parameter in kind.parameter_names()})
            methods = ", ".join(kind.name for kind in candidates)
            if ours := our_keyword(name, known):
                raise BadInput(f"--param: expected a keyword of xaikit, got {name!r}; use {ours}")
            raise BadInput(str(UnknownName("parameter", name, known, f"{methods}: {', '.join(known) or 'none'}")))
        for kind in takers:
            result[kind.name][name] = kind.checked(name, _literal(value))
    return result


def _registered(name: str) -> str:
    """Return the registry's spelling of a method's name, or the name itself if there is no such method."""
    from xaikit.api import get_method

    with suppress(UnknownName):
        return get_method(name).name
    return name


def _literal(text: str) -> Any:
    if text.strip().casefold() in ("none", "null"):
        return None
    for candidate in (text, text.lower()):
        try:
            return tomllib.loads(f"value = {candidate}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text
