"""`--param [method.]key=value`: text to checked parameters, by method.

steps=100                       for every method that has `steps`
integrated-gradients.steps=100  for one
value                           a TOML value (1, 0.5, true, [8, 8], "soft"), none, or plain text
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from xaikit.foundation.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from xaikit.methods.base import Method


def parameters(texts: Iterable[str], kinds: Sequence[type[Method]]) -> dict[str, dict[str, Any]]:
    """Return the parameters of each method by its name.

    Raises:
        BadInput: no `key=value`, a key that no method has, a method that was not asked for, or a value of another type.
    """
    found: dict[str, dict[str, Any]] = {kind.name: {} for kind in kinds}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadInput(f"--param: expected [method.]key=value, got {text!r}; such as steps=100")
        method, dot, name = key.rpartition(".")
        if dot and method not in found:
            raise BadInput(str(UnknownName("method in --param", method, found, f"asked for: {', '.join(found)}")))
        chosen = [kind for kind in kinds if not dot or kind.name == method]
        having = [kind for kind in chosen if name in kind.parameter_names()]
        if not having:
            known = sorted({one for kind in chosen for one in kind.parameter_names()})
            who = ", ".join(kind.name for kind in chosen)
            raise BadInput(str(UnknownName("parameter", name, known, f"{who}: {', '.join(known) or 'none'}")))
        for kind in having:
            found[kind.name][name] = kind.checked(name, _literal(value))
    return found


def _literal(text: str) -> Any:
    """Return the value that a text stands for."""
    if text.strip().casefold() in ("none", "null"):
        return None
    for attempt in (text, text.lower()):
        try:
            return tomllib.loads(f"value = {attempt}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text
