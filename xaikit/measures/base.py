"""The measure: one number per image and map, with its direction declared, and the subject that measures share.

    subject = Subject(classifier, pixels, maps, target)
    value   = Measure().compute(subject)        (N,), never averaged here

What several measures of one map need (a keep curve) is computed once by `Subject.shared`; what holds for an image
whatever its map (its logits, the model's answer to removed regions) once for all methods by `Subject.of_images`.

Shapes: pixels (N, C, H, W) in [0, 1]; maps (N, H, W) in [0, 1]; masks (N, H, W) bool; values (N,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.parameters import Parameters
from xaikit.foundation.registry import Registry
from xaikit.images.hashes import image_hashes
from xaikit.images.shapes import upsample
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution, reduced
from xaikit.run.context import Context
from xaikit.run.cost import Cost

Direction = Literal["higher", "lower", "none"]
MeasureNeed = Literal["maps", "model", "method", "masks"]
T = TypeVar("T")


class Explainer(Protocol):
    """What explains again: a bound method."""

    @property
    def classifier(self) -> Classifier:
        """What is explained."""

    def attribute(self, inputs: Tensor, target: Any = None, *, context: Context | None = None) -> Attribution:
        """Explain a batch."""

    def on(self, classifier: Classifier) -> Explainer:
        """Return the same method bound to another classifier."""


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
        attribution: what the maps were made of, for measures of raw and signed values.
        context: of the run; the attribution was made under the same.
        image_facts: where `of_images` keeps its rows; give the same to the subjects of all methods.
    """

    classifier: Classifier
    pixels: Tensor
    maps: Tensor
    target: Tensor
    method: Explainer | None = None
    masks: Tensor | None = None
    attribution: Attribution | None = None
    context: Context = field(default_factory=Context)
    image_facts: dict[Hashable, Tensor] = field(default_factory=dict, repr=False)
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    def shared(self, key: Any, compute: Callable[[], T]) -> T:
        """Return `compute()`, computed once for this subject under `key`."""
        if key not in self._shared:
            self._shared[key] = compute()
        result: T = self._shared[key]
        return result

    def of_images(self, fact: Hashable, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return one row an image of what holds whatever its map is, computed once for all subjects.

        Args:
            fact: names what is asked, with its protocol.
            compute: gives the rows (m, ...) of the images in places (m,).
        """
        model = self.shared("fingerprint", lambda: self.classifier.fingerprint)
        about = (fact, model, self.context.seed, self.context.precision)
        keys = [(*about, content, index) for content, index in zip(self.hashes, self.target.tolist(), strict=True)]
        missing = [place for place, key in enumerate(keys) if key not in self.image_facts]
        if missing:
            rows = compute(torch.tensor(missing, device="cpu"))
            self.image_facts.update((keys[place], row) for place, row in zip(missing, rows, strict=True))
        return torch.stack([self.image_facts[key] for key in keys])

    def logits_of(self, pixels: Tensor) -> Tensor:
        """Return logits (m, K) of pixels (m, C, H, W), in portions."""
        pixels = self.classifier.check(pixels)

        def work(rows: slice) -> Tensor:
            return self.context.forward(self.classifier, self.classifier.normalize(pixels[rows]))

        with self.classifier.borrowed(), torch.no_grad():
            size = self.context.portion(self.classifier, self.size)
            return torch.cat(list(self.context.portions(len(pixels), size, work)))

    @property
    def logits(self) -> Tensor:
        """(N, K) of the unchanged images."""
        return self.of_images("logits", lambda places: self.logits_of(self.pixels[places]))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.pixels.shape[-2], self.pixels.shape[-1]

    @property
    def hashes(self) -> list[str]:
        """Content of each image."""
        return self.shared("hashes", lambda: image_hashes(self.pixels))

    @property
    def raw(self) -> Tensor:
        """(N, H, W) float64 on the CPU: signed values at the images' size; the maps where there is no attribution."""
        if self.attribution is None:
            return self.maps.detach().cpu().double()
        made = self.attribution
        values = reduced(made.values, made.reduction)
        return self.shared("raw", lambda: upsample(values.detach().cpu().double(), self.size))

    @property
    def finite(self) -> Tensor:
        """(N,) bool on the CPU: the map, and the values it was made of, are finite."""
        finite = self.maps.isfinite().flatten(1).all(1).cpu()
        if self.attribution is not None:
            finite = finite & self.attribution.values.isfinite().flatten(1).all(1).cpu()
        return finite

    @property
    def explainer(self) -> Explainer:
        """The method, for measures that explain again.

        Raises:
            BadInput: there is none, as for a map that no method made.
        """
        if self.method is None:
            raise BadInput("method: expected the bound method of these maps, got none; give Subject(method=...)")
        return self.method

    @property
    def explanation(self) -> Attribution:
        """The attribution, made again where it was not given.

        Raises:
            BadInput: there is neither an attribution nor a method.
        """
        if self.attribution is not None:
            return self.attribution
        method = self.explainer
        return self.shared("explanation", lambda: method.attribute(self.pixels, self.target, context=self.context))

    @property
    def evidence(self) -> Tensor:
        """(N, H, W) bool on the CPU: the masks, for measures that need them.

        Raises:
            BadInput: there are none, or they are no bool of the maps' shape.
        """
        if self.masks is None or self.masks.dtype != torch.bool or self.masks.shape != self.maps.shape:
            got = "none" if self.masks is None else f"{self.masks.dtype} {tuple(self.masks.shape)}"
            raise BadInput(f"masks: expected bool {tuple(self.maps.shape)}, got {got}; give Subject(masks=...)")
        return self.masks.detach().cpu()


@dataclass(frozen=True)
class Measure(Parameters, ABC):
    """One measure of explanations; its dataclass fields are its parameters."""

    name: ClassVar[str]
    direction: ClassVar[Direction]
    range: ClassVar[tuple[float, float]]
    source: ClassVar[str]
    needs: ClassVar[frozenset[MeasureNeed]] = frozenset({"maps", "model"})

    @abstractmethod
    def compute(self, subject: Subject) -> Tensor:
        """Return one value per image, (N,) float64 on the CPU; NaN where it is not defined."""

    def cost(self) -> Cost:
        """Return the passes for one image and map, beyond what is shared; none unless a measure says more."""
        return Cost(0)

    def image_cost(self) -> Cost:
        """Return the passes for one image, whatever number of maps share them."""
        return Cost(0)

    def explanations(self) -> int:
        """Return how many further explanations by the method one image and map take."""
        return 0


MEASURES: Registry[Measure] = Registry("measure", "xaikit.measures")
