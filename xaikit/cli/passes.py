"""What a method costs with default parameters, for one image on resnet50."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xaikit.methods.base import Method
    from xaikit.model.classifier import Classifier
    from xaikit.run.cost import Cost


def passes(kind: type[Method]) -> Cost:
    """Return the passes of a method; resnet50 is built only for methods whose cost depends on the network."""
    return kind.passes if hasattr(kind, "passes") else kind(_resnet50()).cost((224, 224))


@cache
def _resnet50() -> Classifier:
    from xaikit.zoo.load import load

    return load("resnet50", weights="random", device="cpu")
