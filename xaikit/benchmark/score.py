"""Scoring: methods x images -> rows from which every number of a report can be recomputed.

    batch of images -> target fixed -> Block: what all methods share
    method x images of the block -> explain (timed, counted) -> a Run for each image
    runs -> maps in [0, 1] -> keep curves, soft and binary, if asked for, and measures -> one row per image

A row holds the raw confidences y and o_ij and the value of each measure, never an aggregate. Methods do not share
passes here, so time and counters belong to one method; curves and measures share passes where they can.

Shapes: pixels (N, C, H, W) in [0, 1]; labels (N,); masks (N, H, W) bool; o (N, T), T = levels + 1 thresholds.
Units: milliseconds per image, explained in one batch; forwards and backwards count images sent through the network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from xaikit.benchmark.environment import hardware
from xaikit.benchmark.given_maps import GivenMaps
from xaikit.benchmark.rows import MEASURE, Row, own_columns, shared_columns
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import Fill
from xaikit.measures.base import Measure, Subject, computed
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import curve
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
    """One method's attribution of one image, and its cost.

    Args:
        attribution: the attribution of the image.
        ms: milliseconds, a share of those of its batch.
        forwards: forward passes.
        backwards: backward passes.
        hardware: device that the time was measured on.
        batch: number of images that were explained together.
    """

    attribution: Attribution
    ms: float
    forwards: float
    backwards: float
    hardware: str = ""
    batch: int = 1


@dataclass(frozen=True)
class Block:
    """Images with their target, and what all their maps share.

    Args:
        classifier: the network.
        images: the images.
        pixels: those of the images, on the network's device.
        target: the class that is explained.
        facts: cache of what measures know of the images.
    """

    classifier: Classifier
    images: Images
    pixels: Tensor
    target: Target
    facts: dict[Hashable, Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Sequence[int]) -> Block:
        """Return some images of the block, with the same cache."""
        index = torch.tensor(rows, dtype=torch.int64)
        images = Images(
            self.images.dataset,
            [self.images.names[row] for row in rows],
            self.images.pixels[index],
            None if self.images.labels is None else self.images.labels[index],
            None if self.images.masks is None else self.images.masks[index],
        )
        on_device = index.to(self.pixels.device)
        return replace(self, images=images, pixels=self.pixels[on_device], target=self.target[on_device])


def score(
    methods: Mapping[str, Method] | Sequence[Method],
    images: Images,
    target: Any = None,
    *,
    measures: Mapping[str, Measure] | None = None,
    levels: int | None = 10,
    fill: Fill = "mean",
    context: Context | None = None,
    warm: Container[str] = (),
) -> list[Row]:
    """Explain images by each method and measure the maps.

    Args:
        methods: methods bound to one classifier, by their name in rows; a sequence uses the methods' own names.
        images: the images to explain.
        target: as in `attribute`, the same for all methods.
        measures: measures by name; each fills the column `measure.NAME`. Those that need masks are skipped
            without, those that explain again for maps of the caller.
        levels: number of levels; thresholds are 0, 1 / levels, ..., 1. None measures no keep curves.
        fill: what removed pixels become.
        context: seed, portions, and progress over the methods; passes are counted for each method separately.
        warm: names of methods that have run before; the others first explain one image untimed.

    Raises:
        BadInput: the methods have several classifiers or equal names, or the images do not fit the classifier.
    """
    context = context or Context()
    methods = _by_name(methods)
    classifier = _common_classifier(methods.values())
    pixels = classifier.check(images.pixels)
    block = Block(classifier, images, pixels, targets(classifier, pixels, target, context))
    curves = None if levels is None else (levels, fill)
    rows = []
    for count, (name, method) in enumerate(methods.items(), start=1):
        runs = explain(method, block, replace(context, progress=None, counters=Counters()), name not in warm)
        own = measured(method, block, runs, measures or {}, curves, replace(context, progress=None))
        rows.append([{**row, "method": name} for row in own])
        if context.progress is not None:
            context.progress(count, len(methods), "methods")
    return [row for rows_of_image in zip(*rows, strict=True) for row in rows_of_image]


def targets(classifier: Classifier, pixels: Tensor, target: Any, context: Context) -> Target:
    """Return the target class of each unmasked image; the forward also warms up the network."""
    size = context.portion(classifier, (pixels.shape[-2], pixels.shape[-1]))

    def forward(rows: slice) -> Tensor:
        return context.forward(classifier, classifier.normalize(pixels[rows]))

    with classifier.borrowed(), torch.no_grad():
        logits = torch.cat(list(context.portions(len(pixels), size, forward)))
    return resolve_target(target, logits, classifier.labels)


def explain(method: Method, block: Block, context: Context, cold: bool) -> list[Run]:
    """Return the run of each image of a block, all explained and timed together.

    Args:
        method: the bound method.
        block: the images.
        context: seed and portions; its counters belong to this call.
        cold: whether one image is explained untimed before, for lazy set-up.
    """
    if cold:
        attribute_all([method], block.pixels[:1], block.target[:1], replace(context, counters=Counters()))
    forwards, backwards = context.counters.forwards, context.counters.backwards
    _wait(block.pixels.device)
    begin = time.perf_counter()
    (attribution,) = attribute_all([method], block.pixels, block.target, context)
    _wait(block.pixels.device)
    seconds = time.perf_counter() - begin
    count = len(block)
    return [
        Run(
            attribution[place : place + 1],
            1000 * seconds / count,
            (context.counters.forwards - forwards) / count,
            (context.counters.backwards - backwards) / count,
            hardware(block.pixels.device),
            count,
        )
        for place in range(count)
    ]


def measured(
    method: Method,
    block: Block,
    runs: Sequence[Run],
    measures: Mapping[str, Measure],
    curves: tuple[int, Fill] | None,
    context: Context,
) -> list[Row]:
    """Return the row of each image of a block.

    Args:
        method: the bound method.
        block: the images.
        runs: the run of each image.
        measures: measures by name.
        curves: levels and fill of the keep curves, or None without.
        context: seed and portions.
    """
    masks, attribution = block.images.masks, Attribution.join([run.attribution for run in runs])
    subject = Subject(
        block.classifier,
        block.pixels,
        attribution.heatmap(),
        block.target,
        method,
        masks,
        attribution,
        context,
        image_facts=block.facts,
    )
    y = subject.explained.confidence(subject.logits, block.classifier.output).double().cpu()
    both = None
    if curves is not None:
        levels, fill = curves
        both = curve(subject, KeepProtocol(levels, "soft", fill)), curve(subject, KeepProtocol(levels, "binary", fill))
        y = both[0].y
    own = own_columns(method, runs, attribution, subject.maps, y, both, masks)
    for label, measure in measures.items():
        if _applies(measure, method, masks):
            for row, value in zip(own, computed(measure, subject, label).tolist(), strict=True):
                row[f"{MEASURE}{label}"] = None if math.isnan(value) else value
    shared = shared_columns(block.classifier, block.images, block.pixels, block.target, context.seed)
    return [common | {"method": method.name} | row for common, row in zip(shared, own, strict=True)]


def _applies(measure: Measure, method: Method, masks: Tensor | None) -> bool:
    """Return whether a measure has what it needs: masks, or a method that can explain other images and networks."""
    lacks_masks = "masks" in measure.needs and masks is None
    return not lacks_masks and not ("method" in measure.needs and isinstance(method, GivenMaps))


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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
