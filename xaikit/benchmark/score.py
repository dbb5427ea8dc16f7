"""Scoring: methods x images -> rows from which every number of a report can be computed again.

    target fixed -> for each method alone: explain (timed, counted) -> map in [0, 1]
                 -> all maps of all methods: keep curves, soft and binary, and measures -> one row an image and method

A row holds the raw confidence y and o_ij, and the value of each measure, never an aggregate. Methods do not share
passes here, so that time and counters are each method's own; curves and measures share what they can.

Shapes: pixels (N, C, H, W) in [0, 1]; labels (N,); masks (N, H, W) bool; o (N, T), T = levels + 1 thresholds.
Units: milliseconds an image, explained in one batch with the others; forwards and backwards are images sent through.
"""

from __future__ import annotations

import time
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from xaikit.benchmark.rows import MEASURE, Row, own_columns, shared_columns
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import Fill
from xaikit.measures.base import Measure, Subject
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve, together
from xaikit.methods.base import Method, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target, resolve_target
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context, Counters


@dataclass(frozen=True)
class Images:
    """Images to score, with what is known about them.

    Args:
        dataset: its name.
        names: one an image, unique.
        pixels: (N, C, H, W) in [0, 1].
        labels: (N,) true classes, or None.
        masks: (N, H, W) bool, where the evidence is known to be, or None.
    """

    dataset: str
    names: Sequence[str]
    pixels: Tensor
    labels: Tensor | None = None
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("names", "labels", "masks"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.pixels):
                raise BadInput(f"{name}: expected {len(self.pixels)}, one an image, got {len(values)}; match them")
        if len(set(self.names)) != len(self.names):
            raise BadInput("names: expected a different one for each image, got some twice; add their folder")


@dataclass(frozen=True)
class Run:
    """One method's attribution of all images, and what it cost an image.

    Args:
        attribution: of all images.
        ms: milliseconds.
        forwards: images sent through the network.
        backwards: images sent back.
    """

    attribution: Attribution
    ms: float
    forwards: float
    backwards: float


class Keep(Protocol):
    """Remembers attributions, so that other measures need not explain again."""

    def recall(self, method: str) -> Run | None:
        """Return what is remembered of all images, or None."""

    def remember(self, method: str, run: Run) -> None:
        """Keep what a method found."""


def score(
    methods: Mapping[str, Method] | Sequence[Method],
    images: Images,
    target: Any = None,
    *,
    measures: Mapping[str, Measure] | None = None,
    levels: int = 10,
    fill: Fill = "mean",
    context: Context | None = None,
    warm: Container[str] = (),
    keep: Keep | None = None,
) -> list[Row]:
    """Explain images by each method and measure the maps.

    Args:
        methods: bound to one classifier, by the name that rows call them; a sequence has the methods' own names.
        images: what is explained.
        target: None (top class), index, label, sequence or tensor; the same for all methods.
        measures: by name; each becomes the column `measure.NAME`. Those that need masks are left out without.
        levels: thresholds are 0, 1 / levels, ..., 1.
        fill: what removed pixels become.
        context: seed, portions and progress over the methods; each method counts for itself.
        warm: names of the methods that have run before; the others explain one image first, off the clock.
        keep: remembers attributions from one call to another, or None.

    Raises:
        BadInput: methods of several classifiers or of one name, or images that do not fit the classifier.
    """
    context = context or Context()
    methods = _by_name(methods)
    classifier = _common_classifier(methods.values())
    pixels = classifier.check(images.pixels)
    chosen = _targets(classifier, pixels, target, context)
    quiet = replace(context, progress=None)
    facts: dict[Hashable, Tensor] = {}
    runs, subjects = {}, {}
    for place, (name, method) in enumerate(methods.items()):
        run = keep.recall(name) if keep is not None else None
        if run is None:
            run = _explain(method, pixels, chosen.index, context, name not in warm)
            if keep is not None:
                keep.remember(name, run)
        runs[name] = run
        subjects[name] = Subject(
            classifier,
            pixels,
            run.attribution.heatmap(),
            chosen.index,
            method,
            images.masks,
            run.attribution,
            quiet,
            image_facts=facts,
        )
        if context.progress is not None:
            context.progress(place + 1, len(methods), "methods")
    together(subjects)
    protocols = KeepProtocol(levels, "soft", fill), KeepProtocol(levels, "binary", fill)
    shared = shared_columns(classifier, images, pixels, chosen, {"levels": levels, "fill": fill, "seed": context.seed})
    rows = []
    for name, subject in subjects.items():
        soft, binary = (curve(subject, protocol) for protocol in protocols)
        own = own_columns(methods[name], runs[name], subject.maps, soft, binary, images.masks)
        for label, measure in (measures or {}).items():
            if images.masks is not None or "masks" not in measure.needs:
                values = measure.compute(subject).tolist()
                own = [
                    row | {f"{MEASURE}{label}": value if value == value else None}
                    for row, value in zip(own, values, strict=True)
                ]
        rows.append([common | {"method": name} | row for common, row in zip(shared, own, strict=True)])
    return [row for of_one_image in zip(*rows, strict=True) for row in of_one_image]


def _by_name(methods: Mapping[str, Method] | Sequence[Method]) -> Mapping[str, Method]:
    if isinstance(methods, Mapping):
        return methods
    names = [method.name for method in methods]
    if len(set(names)) != len(names):
        raise BadInput(f"methods: expected different names, got {', '.join(names)}; give each one of its own")
    return dict(zip(names, methods, strict=True))


def _common_classifier(methods: Iterable[Method]) -> Classifier:
    found = {id(method.classifier): method.classifier for method in methods}
    if not found:
        raise BadInput("methods: expected at least one, got none; xaikit.methods() lists them")
    if len(found) > 1:
        raise BadInput("methods: expected all bound to one classifier, got several; score each by itself")
    return next(iter(found.values()))


def _targets(classifier: Classifier, pixels: Tensor, target: Any, context: Context) -> Target:
    """Fix the class of each image before anything is masked; this also warms the network up."""
    size = context.portion(classifier, (pixels.shape[-2], pixels.shape[-1]))
    with classifier.borrowed(), torch.no_grad():
        logits = torch.cat(
            list(
                context.portions(
                    len(pixels), size, lambda rows: context.forward(classifier, classifier.normalize(pixels[rows]))
                )
            )
        )
    return resolve_target(target, logits, classifier.labels)


def _explain(method: Method, pixels: Tensor, target: Tensor, context: Context, cold: bool) -> Run:
    """Explain all images against the clock; a cold method first explains one, which leaves lazy set-up behind."""
    own = replace(context, counters=Counters(), progress=None)
    if cold:
        attribute_all([method], pixels[:1], target[:1], replace(own, counters=Counters()))
    _wait(pixels.device)
    begin = time.perf_counter()
    (attribution,) = attribute_all([method], pixels, target, own)
    _wait(pixels.device)
    seconds = time.perf_counter() - begin
    count = len(pixels)
    return Run(attribution, 1000 * seconds / count, own.counters.forwards / count, own.counters.backwards / count)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
