"""The measure: one number per image and map, and the subject that all measures of these maps share.

    subject = Subject(classifier, pixels, maps, target)
    value   = Measure().compute(subject)        (N,), never averaged here

`Subject.shared` caches what several measures of one map need, such as a keep curve. `Subject.of_images` caches what
depends on the image but not on its map, such as logits, for all methods.

Shapes: pixels (N, C, H, W) in [0, 1]; maps (N, H, W) in [0, 1]; masks (N, H, W) bool; values (N,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from xaikit.foundation.code import is_own
from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Parameters
from xaikit.foundation.registry import Registry
from xaikit.images.hashes import image_hashes
from xaikit.images.shapes import upsample
from xaikit.model.borrow import unchanged
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target
from xaikit.run.attribution import Attribution, reduced
from xaikit.run.context import Context
from xaikit.run.cost import Cost

Direction = Literal["higher", "lower", "none"]
MeasureNeed = Literal["maps", "model", "method", "masks"]
T = TypeVar("T")


class Explainer(Protocol):
    """A method bound to a classifier."""

    @property
    def classifier(self) -> Classifier:
        """The classifier that the method explains."""

    def attribute(self, inputs: Tensor, target: Any = None, *, context: Context | None = None) -> Attribution:
        """Return the attribution of a batch."""

    def on(self, classifier: Classifier) -> Explainer:
        """Return the same method bound to another classifier."""


@dataclass
class Subject:
    """One method's maps of one batch, with everything that measures need to know about them.

    Args:
        classifier: the model that is explained.
        pixels: (N, C, H, W) in [0, 1].
        maps: (N, H, W) in [0, 1], used without scaling.
        target: (N,) int64 class indices, or a resolved `Target`; None, or the `target` of `attribution`, is what the
            attribution explains, also a contrast or a callable.
        method: the bound method that made the maps, for measures that compute further maps.
        masks: (N, H, W) bool, True on the evidence.
        attribution: the attribution behind the maps, for measures of raw and signed values.
        context: the settings of the run, also used for `attribution`.
        image_facts: the cache of `of_images`; pass one dict to the subjects of all methods.
    """

    classifier: Classifier
    pixels: Tensor
    maps: Tensor
    target: Tensor | Target | None = None
    method: Explainer | None = None
    masks: Tensor | None = None
    attribution: Attribution | None = None
    context: Context = field(default_factory=Context)
    image_facts: dict[Hashable, Tensor] = field(default_factory=dict, repr=False)
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.target is None and self.attribution is None:
            raise BadInput("target: expected what the maps explain, got none; give class indices or the attribution")

    @property
    def explained(self) -> Target:
        """The resolved target."""
        if self.attribution is not None:
            given = self.attribution.target
            if self.target is None or (isinstance(self.target, Tensor) and torch.equal(self.target.cpu(), given.cpu())):
                return self.attribution.full_target
        assert self.target is not None  # checked when the subject is made
        return Target.of(self.target)

    def shared(self, key: Any, compute: Callable[[], T]) -> T:
        """Return `compute()`, computed once for this subject under `key`."""
        if key not in self._shared:
            self._shared[key] = compute()
        result: T = self._shared[key]
        return result

    def of_images(self, fact: Hashable, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return one row per image of a fact that does not depend on the maps, computed once for a classifier.

        Args:
            fact: cache key of the fact, with all its parameters.
            compute: maps the indices (m,) of images to their rows (m, ...).
        """
        model = self.shared("fingerprint", lambda: self.classifier.fingerprint)
        prefix = (fact, self.classifier, model, self.context.seed, self.context.precision)
        keys = [(*prefix, digest, target) for digest, target in zip(self.hashes, self.explained.keys, strict=True)]
        missing = [index for index, key in enumerate(keys) if key not in self.image_facts]
        if missing:
            rows = compute(torch.tensor(missing, device="cpu"))
            self.image_facts.update((keys[index], row) for index, row in zip(missing, rows, strict=True))
        return torch.stack([self.image_facts[key] for key in keys])

    def logits_of(self, pixels: Tensor) -> Tensor:
        """Return the logits (m, K) of pixels (m, C, H, W), computed in portions."""
        pixels = self.classifier.check(pixels)

        def work(rows: slice) -> Tensor:
            return self.context.forward(self.classifier, self.classifier.normalize(pixels[rows]))

        with self.classifier.borrowed(), torch.no_grad():
            size = self.context.portion(self.classifier, self.size)
            return torch.cat(list(self.context.portions(len(pixels), size, work)))

    @property
    def logits(self) -> Tensor:
        """(N, K) logits of the unchanged images."""
        return self.of_images("logits", lambda indices: self.logits_of(self.pixels[indices]))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def hashes(self) -> list[str]:
        """Content hash of each image."""
        return self.shared("hashes", lambda: image_hashes(self.pixels))

    @property
    def raw(self) -> Tensor:
        """(N, H, W) float64 on the CPU: signed values at the images' size; the maps if there is no attribution."""
        if self.attribution is None:
            return self.maps.detach().cpu().double()
        values = reduced(self.attribution.values, self.attribution.reduction)
        return self.shared("raw", lambda: upsample(values.detach().cpu().double(), self.size))

    @property
    def finite(self) -> Tensor:
        """(N,) bool on the CPU: True where the map and its attribution are finite."""
        finite = self.maps.isfinite().flatten(1).all(1).cpu()
        if self.attribution is not None:
            finite = finite & self.attribution.values.isfinite().flatten(1).all(1).cpu()
        return finite

    @property
    def explainer(self) -> Explainer:
        """The method, for measures that compute further maps.

        Raises:
            BadInput: the subject has no method.
        """
        if self.method is None:
            raise BadInput("method: expected the bound method of these maps, got none; give Subject(method=...)")
        return self.method

    @property
    def explanation(self) -> Attribution:
        """The attribution, computed by the method if the subject has none.

        Raises:
            BadInput: the subject has neither an attribution nor a method.
        """
        if self.attribution is not None:
            return self.attribution
        method = self.explainer
        return self.shared("explanation", lambda: method.attribute(self.pixels, self.explained, context=self.context))

    @property
    def evidence(self) -> Tensor:
        """(N, H, W) bool on the CPU: the masks, for measures that need them.

        Raises:
            BadInput: there are no masks, or they are not bool of the maps' shape.
        """
        if self.masks is None or self.masks.dtype != torch.bool or self.masks.shape != self.maps.shape:
            got = "none" if self.masks is None else f"{self.masks.dtype} {tuple(self.masks.shape)}"
            raise BadInput(f"masks: expected bool {tuple(self.maps.shape)}, got {got}; give Subject(masks=...)")
        return self.masks.detach().cpu()


@dataclass(frozen=True)
class Measure(Parameters, ABC):
    """Base class of the measures; the dataclass fields of a measure are its parameters."""

    name: ClassVar[str]
    direction: ClassVar[Direction]
    range: ClassVar[tuple[float, float]]
    source: ClassVar[str]
    needs: ClassVar[frozenset[MeasureNeed]] = frozenset({"maps", "model"})

    @abstractmethod
    def compute(self, subject: Subject) -> Tensor:
        """Return one value per image, (N,) float64 on the CPU; NaN where the measure is not defined."""

    def cost(self) -> Cost:
        """Return the passes for one image and map, without those shared between maps."""
        return Cost(0)

    def image_cost(self) -> Cost:
        """Return the passes for one image that all its maps share."""
        return Cost(0)

    def explanations(self) -> int:
        """Return the number of further maps per image that the method computes for this measure."""
        return 0


def computed(measure: Measure, subject: Subject, name: str) -> Tensor:
    """Return the values of a measure, (N,).

    Args:
        measure: the measure.
        subject: what is measured.
        name: name of the measure in the message of an error.

    Raises:
        BadInput: there is not one value for each image, or a measure of a plugin changed the network.
    """
    with nullcontext() if is_own(type(measure)) else unchanged(subject.classifier.module, name):
        values = measure.compute(subject)
    if tuple(values.shape) != (count := len(subject.pixels),):
        raise BadInput(
            f"{name}: expected {count} values, one per image, got {tuple(values.shape)}; correct the measure"
        )
    return values


_ALIASES = {
    "average-drop": "apd",
    "average-increase": "ir",
    "complexity": "entropy",
    "increase-in-confidence": "ir",
    "relevance-rank-accuracy": "rank-accuracy",
}
"""Names that people arrive with; case, hyphens and ++ do not matter."""

MEASURES: Registry[Measure] = Registry("measure", "xaikit.measures", aliases=_ALIASES)
