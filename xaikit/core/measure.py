"""The measure: one number per image and map, with its direction declared, and the subject that measures share.

    subject = Subject(classifier, pixels, maps, target)
    value   = Measure().compute(subject)        (N,), never averaged here

What several measures need (a keep curve, the clean confidence) is computed once by `Subject.shared`.

Shapes: pixels (N, C, H, W) in [0, 1]; maps (N, H, W) in [0, 1]; masks (N, H, W) bool; values (N,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from xaikit.core.classifier import Classifier
from xaikit.core.context import Context
from xaikit.core.method import Cost, Method
from xaikit.core.registry import Registry

__all__ = ["MEASURES", "Direction", "Measure", "MeasureNeed", "Subject"]

Direction = Literal["higher", "lower", "none"]
MeasureNeed = Literal["maps", "model", "method", "masks"]
T = TypeVar("T")


@dataclass
class Subject:
    """What is measured: one method's maps of one batch, and the means to ask more.

    Args:
        classifier: the model that is explained.
        pixels: (N, C, H, W) in [0, 1].
        maps: (N, H, W) in [0, 1], used as they are.
        target: (N,) int64.
        method: the bound method that made the maps, for measures that explain again.
        masks: (N, H, W) bool, where the evidence is known to be.
        context: of the run.
    """

    classifier: Classifier
    pixels: Tensor
    maps: Tensor
    target: Tensor
    method: Method | None = None
    masks: Tensor | None = None
    context: Context = field(default_factory=Context)
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    def shared(self, key: Any, compute: Callable[[], T]) -> T:
        """Return `compute()`, computed once for this subject under `key`."""
        if key not in self._shared:
            self._shared[key] = compute()
        result: T = self._shared[key]
        return result


@dataclass(frozen=True)
class Measure(ABC):
    """One measure of explanations; its dataclass fields are its parameters."""

    name: ClassVar[str]
    direction: ClassVar[Direction]
    range: ClassVar[tuple[float, float]]
    source: ClassVar[str]
    needs: ClassVar[frozenset[MeasureNeed]] = frozenset({"maps", "model"})

    @abstractmethod
    def compute(self, subject: Subject) -> Tensor:
        """Return one value per image, (N,) float64 on the CPU; NaN where it is not defined."""

    @abstractmethod
    def cost(self) -> Cost:
        """Return the passes for one image and map, beyond what is shared."""

    @property
    def params(self) -> dict[str, Any]:
        """The parameters."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


MEASURES: Registry[Measure] = Registry("measure", "xaikit.measures")
