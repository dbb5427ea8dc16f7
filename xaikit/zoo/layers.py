"""The layers that an activation method can look at: what `xaikit layers MODEL` shows.

    candidates(classifier) -> name, kind, (C, h, w), calls, default      in the order of execution

Only outputs of more than one position are listed, because a map of 1x1 says nothing about where.
"""

from __future__ import annotations

from dataclasses import dataclass

from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier

__all__ = ["Candidate", "candidates"]


@dataclass(frozen=True)
class Candidate:
    """One layer.

    Args:
        name: what `layer=` takes.
        kind: class of the module.
        shape: (C, h, w) of its output, of the last call where it runs several times.
        calls: how often it runs in one forward; several are told apart as `name:0`, `name:1`, ...
        default: whether the activation methods use it unless told otherwise.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    calls: int
    default: bool


def candidates(classifier: Classifier) -> list[Candidate]:
    """Return the layers of a classifier whose output is a map of more than one position."""
    modules = dict(classifier.module.named_modules())
    calls = classifier.outline().calls
    default = _default(classifier)
    return [
        Candidate(name, type(modules[name]).__name__, shape, calls[name], name == default)
        for name, shape in classifier.layers().items()
        if shape[1] * shape[2] > 1
    ]


def _default(classifier: Classifier) -> str | None:
    try:
        return classifier.resolve_layer(None).name
    except BadInput:
        return None
