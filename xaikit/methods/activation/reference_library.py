"""The reference library of Libra-CAM: for each class, activations of the images least likely to show it.

    candidates of class c   correctly classified images of other classes
    kept                    the K with the lowest log p_c (float64), lowest first, then in data order

One pass over the data keeps a pool of activations and, for each class, indices into that pool. An image is removed from
the pool when no class refers to it any more.

Shapes: activations (P, C, h, w); places (classes, K) int64, -1 for missing ones; confidence (classes, K) float64.
Source: Lee & Han, IJCAI 2022.
Departs from source: the authors' published builder stops when the first class is full, which is not the true top K.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from torch import Tensor

from xaikit.foundation.errors import BadChecksum, BadInput
from xaikit.foundation.files import kind_of
from xaikit.foundation.identity import SCHEMA_VERSION, fingerprint
from xaikit.foundation.tensor_files import read_tensors, write_tensors
from xaikit.images.references import draw_references
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.model.hooks import Layer
from xaikit.run.batch import Batch
from xaikit.run.context import Context


@dataclass(frozen=True, repr=False)
class Library:
    """Reference activations by class.

    Args:
        activations: (P, C, h, w) the pool of activations.
        places: (classes, K) int64 indices into the pool, -1 for missing references.
        confidence: (classes, K) float64 log-probability of the class for each reference image, ascending.
        model: fingerprint of the classifier, including its preprocessing.
        layer: name of the target layer.
    """

    activations: Tensor
    places: Tensor
    confidence: Tensor
    model: str
    layer: str

    def __len__(self) -> int:
        return self.places.shape[1]

    def __repr__(self) -> str:
        kept = (self.places >= 0).sum(1)
        counts = f"{int(kept.min())} to {int(kept.max())}" if kept.min() < kept.max() else f"{int(kept.max())}"
        size = " x ".join(map(str, self.activations.shape[1:]))
        return (
            f"Library({self.fingerprint}; {len(self.places)} classes, {counts} references each of "
            f"{len(self.activations)} images; {size} at {self.layer}; model {self.model})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify model, layer and the references' confidences."""
        confidence = [f"{value:.6g}" for value in self.confidence.flatten().tolist()]
        return fingerprint({"model": self.model, "layer": self.layer, "confidence": confidence})

    def references(self, label: int, count: int | None = None) -> Tensor:
        """Return at most `count` reference activations (r, C, h, w) of class `label`, least confident first."""
        indices = self.places[label, :count]
        return self.activations[indices[indices >= 0]]

    def check(self, classifier: Classifier, layer: str) -> None:
        """Check that the library was built for this model, preprocessing and layer.

        Raises:
            BadChecksum: it was built for another.
        """
        if self.layer != layer:
            raise BadChecksum(f"library: expected one of layer {layer!r}, got {self.layer!r}; build it for this layer")
        if self.model != classifier.fingerprint:
            raise BadChecksum(
                f"library: expected one of model {classifier.fingerprint}, got {self.model}; "
                "build it with these weights and this preprocessing"
            )

    @classmethod
    def build(
        cls,
        classifier: Classifier,
        data: Iterable[tuple[Tensor, Tensor]],
        references: int = 30,
        *,
        layer: str | None = None,
        dtype: torch.dtype = torch.float32,
        context: Context | None = None,
    ) -> Library:
        """Return a library of references selected from labelled images in one pass.

        Args:
            classifier: the model.
            data: batches of pixels (B, C, H, W) in [0, 1] and labels (B,), the model's class indices.
            references: K, the number of references per class.
            layer: name of the target layer; None is the classifier's target layer.
            dtype: dtype of the stored activations; float16 halves their memory.
            context: settings of the run.

        Raises:
            BadInput: no image is correctly classified, labels are out of range, or the classifier is a regression.
        """
        check_classifier(classifier)
        if not isinstance(references, int) or references < 1:
            raise BadInput(f"references: expected at least 1, got {references}; the paper uses 30")
        if classifier.output == "regression":
            raise BadInput("library: expected a classifier with probabilities, got a regression; it has no classes")
        selection = _Selection(classifier.classes, references, dtype)
        context = context or Context()
        name = str(classifier.resolve_layer(layer))
        with classifier.borrowed():
            for pixels, labels in data:
                batch = classifier.check(pixels)
                labels = _check_labels(labels, len(batch), classifier.classes)
                with classifier.looking_at(batch.shape[2:]):
                    resolved = classifier.resolve_layer(name)
                for rows, activations, log_probability in _activations(classifier, batch, resolved, context):
                    selection.offer(activations, log_probability, _eligible(log_probability, labels[rows]))
        return selection.finish(classifier.fingerprint, name)

    @classmethod
    def of_drawn_pictures(
        cls,
        classifier: Classifier,
        layer: Layer,
        size: tuple[int, int],
        references: int = 30,
        context: Context | None = None,
    ) -> Library:
        """Return a library of drawn pictures without an object, for when there are no labelled images.

        Twice as many pictures as references are drawn at `size` = (H, W); each class takes the least confident.
        """
        drawn = draw_references(2 * references, classifier.channels, size).to(classifier.device)
        selection, context = _Selection(classifier.classes, references, torch.float32), context or Context()
        with classifier.borrowed():
            for _, activations, log_probability in _activations(classifier, drawn, layer, context):
                selection.offer(activations, log_probability, torch.ones_like(log_probability, dtype=torch.bool))
        return selection.finish(classifier.fingerprint, str(layer))

    def save(self, file: str | Path) -> None:
        """Write the library as one safetensors file, atomically."""
        about = {"schema": SCHEMA_VERSION, "model": self.model, "layer": self.layer}
        tensors = {"activations": self.activations, "places": self.places, "confidence": self.confidence}
        write_tensors(file, tensors, "xaikit-library", about)

    @classmethod
    def load(cls, file: str | Path) -> Library:
        """Return the library saved in a file.

        Raises:
            BadInput: the file does not exist, is damaged or is not a library.
        """
        kind = kind_of(file)
        reason = {"file": "something else", "nothing there": "no such file"}.get(kind, kind)
        refusal = BadInput(f"{file}: expected a reference library, got {reason}; make one with `xaikit library`")
        if kind != "file":
            raise refusal
        try:
            content, stored = read_tensors(file, "xaikit-library")
            about = _About.model_validate(content)
            tensors = {name: stored[name] for name in ("activations", "places", "confidence")}
        except BadInput:
            raise
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise refusal from error
        library = cls(**tensors, model=about.model, layer=about.layer)
        library._check_tensors(file)
        return library

    def _check_tensors(self, file: str | Path) -> None:
        """Check that the tensors of a file fit together."""
        pool, places, confidence = self.activations, self.places, self.confidence
        shapes = pool.ndim == 4 and places.ndim == 2 and places.shape == confidence.shape and places.numel() > 0
        kinds = pool.is_floating_point() and places.dtype == torch.int64 and confidence.dtype == torch.float64
        if not (shapes and kinds and -1 <= int(places.min()) <= int(places.max()) < len(pool)):
            got = ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (pool, places, confidence))
            raise BadInput(
                f"{file}: expected activations, places in them and confidences of a reference library, got {got}; "
                "make one with `xaikit library`"
            )


class _About(BaseModel):
    """The metadata of a library's file."""

    model_config = ConfigDict(strict=True)

    schema_version: Literal[1] = Field(alias="schema")
    model: str
    layer: str


def log_probabilities(classifier: Classifier, logits: Tensor) -> Tensor:
    """Return log p (N, K) in float64, which distinguishes probabilities that are equal in float32."""
    exact = logits.double()
    return exact.log_softmax(1) if classifier.output == "softmax" else torch.nn.functional.logsigmoid(exact)


def _activations(
    classifier: Classifier, pixels: Tensor, layer: Layer, context: Context
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield rows, activations (n, C, h, w) and log-probabilities (n, K) of images in portions."""

    def work(rows: slice) -> tuple[slice, Tensor, Tensor]:
        batch = Batch(classifier, pixels[rows], None, context)
        activations = batch.activations(layer)
        return rows, activations, log_probabilities(classifier, batch.logits)

    portion = context.portion(classifier, (pixels.shape[-2], pixels.shape[-1]))
    yield from context.portions(len(pixels), portion, work)


class _Selection:
    """The least confident candidates of each class so far, with a pool of their activations."""

    def __init__(self, classes: int, references: int, dtype: torch.dtype) -> None:
        self.confidence = torch.full((classes, references), torch.inf, dtype=torch.float64, device="cpu")
        self.images = torch.full((classes, references), -1, dtype=torch.int64, device="cpu")
        self.pool: dict[int, Tensor] = {}
        self.seen = 0
        self.dtype = dtype

    def offer(self, activations: Tensor, log_probability: Tensor, eligible: Tensor) -> None:
        """Update the candidates with one portion of images.

        Args:
            activations: (n, C, h, w) activations.
            log_probability: (n, classes) float64 log-probabilities.
            eligible: (n, classes) bool, whether the image may be a reference of the class.
        """
        count, classes = log_probability.shape
        offered = log_probability.masked_fill(~eligible, torch.inf).T.cpu()
        numbers = torch.arange(self.seen, self.seen + count, device="cpu").expand(classes, count)
        confidence = torch.cat([self.confidence, offered], 1)
        images = torch.cat([self.images, numbers], 1)
        kept = confidence.argsort(dim=1, stable=True)[:, : self.confidence.shape[1]]
        self.confidence = confidence.gather(1, kept)
        self.images = images.gather(1, kept).masked_fill(self.confidence.isinf(), -1)
        wanted = set(self.images.flatten().tolist()) - {-1}
        self.pool = {number: tensor for number, tensor in self.pool.items() if number in wanted}
        for number in sorted(wanted - self.pool.keys()):
            self.pool[number] = activations[number - self.seen].to("cpu", self.dtype, copy=True)
        self.seen += count

    def finish(self, model: str, layer: str) -> Library:
        """Return the library of the candidates."""
        if not self.pool:
            raise BadInput(f"library: expected correctly classified images, got none of {self.seen}; check the labels")
        numbers = sorted(self.pool)
        indices = torch.searchsorted(torch.tensor(numbers, device="cpu"), self.images.clamp_min(0))
        places = indices.masked_fill(self.images < 0, -1)
        return Library(torch.stack([self.pool[number] for number in numbers]), places, self.confidence, model, layer)


def _eligible(log_probability: Tensor, labels: Tensor) -> Tensor:
    """Return (n, classes) bool: whether the image is correctly classified as another class."""
    labels = labels.to(log_probability.device)
    correct = log_probability.argmax(1) == labels
    other = torch.arange(log_probability.shape[1], device=labels.device)[None, :] != labels[:, None]
    return correct[:, None] & other


def _check_labels(labels: Tensor, count: int, classes: int) -> Tensor:
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"labels: expected class indices, got {type(labels).__name__}; give integers (B,)") from error
    if labels.shape != (count,) or labels.is_floating_point():
        raise BadInput(f"labels: expected ({count},) integers, one per image, got {tuple(labels.shape)} {labels.dtype}")
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        got = f"{int(labels.min())} to {int(labels.max())}"
        raise BadInput(f"labels: expected classes 0 to {classes - 1}, got {got}; use the model's indices")
    return labels
