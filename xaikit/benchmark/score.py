"""Scoring: methods x images -> rows from which every number of a report can be recomputed.

    target fixed -> for each method alone: explain (timed, counted) -> map in [0, 1]
                 -> all maps together: keep curves, soft and binary, and measures -> one row per image and method

A row holds the raw confidences y and o_ij and the value of each measure, never an aggregate. Methods do not share
passes here, so time and counters belong to one method; curves and measures share passes where they can.

Shapes: pixels (N, C, H, W) in [0, 1]; labels (N,); masks (N, H, W) bool; o (N, T), T = levels + 1 thresholds.
Units: milliseconds per image, explained in one batch; forwards and backwards count images sent through the network.
"""

import math
import time
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from xaikit.benchmark.environment import hardware
from xaikit.benchmark.rows import MEASURE, Row, own_columns, shared_columns
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import Fill
from xaikit.measures.base import Measure, Subject, computed
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve, together
from xaikit.methods.base import Method, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target, resolve_target
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context, Counters


@dataclass(frozen=True)
class Images:
    """Images to score, with their labels and masks.

    Args:
        dataset: name of the dataset.
        names: name of each image, unique.
        pixels: (N, C, H, W) in [0, 1].
        labels: (N,) true class indices, or None.
        masks: (N, H, W) bool, True on the evidence, or None if unknown.
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
                raise BadInput(f"{name}: expected {len(self.pixels)}, one per image, got {len(values)}")
        if len(set(self.names)) != len(self.names):
            raise BadInput("names: expected a different name for each image, got some twice; add their folder")


@dataclass(frozen=True)
class Run:
    """One method's attribution of all images, and its cost per image.

    Args:
        attribution: the attribution of all images.
        ms: milliseconds per image.
        forwards: forward passes per image.
        backwards: backward passes per image.
        hardware: device that the time was measured on.
    """

    attribution: Attribution
    ms: float
    forwards: float
    backwards: float
    hardware: str = ""


class Keep(Protocol):
    """A cache of attributions, so that new measures do not explain again."""

    def recall(self, method: str) -> Run | None:
        """Return the cached run of a method on all images, or None."""

    def remember(self, method: str, run: Run) -> None:
        """Save the run of a method."""


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
        methods: methods bound to one classifier, by their name in rows; a sequence uses the methods' own names.
        images: the images to explain.
        target: as in `attribute`, the same for all methods.
        measures: measures by name; each fills the column `measure.NAME`. Those that need masks are skipped without.
        levels: number of levels; thresholds are 0, 1 / levels, ..., 1.
        fill: what removed pixels become.
        context: seed, portions, and progress over the methods; passes are counted for each method separately.
        warm: names of methods that have run before; the others first explain one image untimed.
        keep: cache of attributions, or None.

    Raises:
        BadInput: the methods have several classifiers or equal names, or the images do not fit the classifier.
    """
    context = context or Context()
    methods = _by_name(methods)
    classifier = _common_classifier(methods.values())
    pixels = classifier.check(images.pixels)
    targets = _targets(classifier, pixels, target, context)
    quiet = replace(context, progress=None)
    facts: dict[Hashable, Tensor] = {}
    runs, subjects = {}, {}
    for count, (name, method) in enumerate(methods.items(), start=1):
        run = keep.recall(name) if keep is not None else None
        if run is None:
            run = _explain(method, pixels, targets, context, name not in warm)
            if keep is not None:
                keep.remember(name, run)
        runs[name] = run
        subjects[name] = Subject(
            classifier,
            pixels,
            run.attribution.heatmap(),
            targets,
            method,
            images.masks,
            run.attribution,
            quiet,
            image_facts=facts,
        )
        if context.progress is not None:
            context.progress(count, len(methods), "methods")
    together(subjects)
    protocols = KeepProtocol(levels, "soft", fill), KeepProtocol(levels, "binary", fill)
    shared = shared_columns(classifier, images, pixels, targets, {"levels": levels, "fill": fill, "seed": context.seed})
    rows = []
    for name, subject in subjects.items():
        soft, binary = (curve(subject, protocol) for protocol in protocols)
        own = own_columns(methods[name], runs[name], subject.maps, soft, binary, images.masks)
        for label, measure in (measures or {}).items():
            if images.masks is not None or "masks" not in measure.needs:
                values = computed(measure, subject, label).tolist()
                own = [
                    row | {f"{MEASURE}{label}": None if math.isnan(value) else value}
                    for row, value in zip(own, values, strict=True)
                ]
        rows.append([common | {"method": name} | row for common, row in zip(shared, own, strict=True)])
    return [row for rows_of_image in zip(*rows, strict=True) for row in rows_of_image]


def _by_name(methods: Mapping[str, Method] | Sequence[Method]) -> Mapping[str, Method]:
    if isinstance(methods, Mapping):
        return methods
    names = [method.name for method in methods]
    if len(set(names)) != len(names):
        raise BadInput(f"methods: expected different names, got {', '.join(names)}; pass a mapping from name to method")
    return dict(zip(names, methods, strict=True))


def _common_classifier(methods: Iterable[Method]) -> Classifier:
    classifiers = {id(method.classifier): method.classifier for method in methods}
    if not classifiers:
        raise BadInput("methods: expected at least one, got none; xaikit.methods() lists them")
    if len(classifiers) > 1:
        raise BadInput("methods: expected all bound to one classifier, got several; score each classifier separately")
    return next(iter(classifiers.values()))


def _targets(classifier: Classifier, pixels: Tensor, target: Any, context: Context) -> Target:
    """Return the target class of each unmasked image; the forward also warms up the network."""
    size = context.portion(classifier, (pixels.shape[-2], pixels.shape[-1]))

    def forward(rows: slice) -> Tensor:
        return context.forward(classifier, classifier.normalize(pixels[rows]))

    with classifier.borrowed(), torch.no_grad():
        logits = torch.cat(list(context.portions(len(pixels), size, forward)))
    return resolve_target(target, logits, classifier.labels)


def _explain(method: Method, pixels: Tensor, target: Target, context: Context, cold: bool) -> Run:
    """Explain all images and measure the time; a cold method first explains one image untimed, for lazy set-up."""
    own = replace(context, counters=Counters(), progress=None)
    if cold:
        attribute_all([method], pixels[:1], target[:1], replace(own, counters=Counters()))
    _wait(pixels.device)
    begin = time.perf_counter()
    (attribution,) = attribute_all([method], pixels, target, own)
    _wait(pixels.device)
    seconds = time.perf_counter() - begin
    count = len(pixels)
    return Run(
        attribution,
        1000 * seconds / count,
        own.counters.forwards / count,
        own.counters.backwards / count,
        hardware(pixels.device),
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
