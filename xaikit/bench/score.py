"""Scoring: methods x images -> rows from which every number of a report can be computed again.

    target fixed -> for each method alone: explain (timed, counted) -> map in [0, 1]
                 -> all maps of all methods: keep curves, soft and binary -> one row an image and method

A row holds the raw confidence y and o_ij, never an aggregate. Methods do not share passes here, so that time and
counters are each method's own; the curves share what they can.

Shapes: pixels (N, C, H, W) in [0, 1]; labels (N,); masks (N, H, W) bool; o (N, T), T = levels + 1 thresholds.
Units: milliseconds an image, explained in one batch with the others; forwards and backwards are images sent through.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xaikit.core.attribution import Attribution
from xaikit.core.classifier import Classifier
from xaikit.core.context import Context, Counters
from xaikit.core.errors import BadInput
from xaikit.core.identity import SCHEMA_VERSION, canonical_json, fingerprint, image_hashes
from xaikit.core.method import Method, attribute_all
from xaikit.core.perturb import Fill
from xaikit.core.target import Target, resolve_target
from xaikit.measures.keep_curve import KeepCurve, keep_curves

__all__ = ["Images", "Row", "score"]

Row = dict[str, Any]


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


def score(
    methods: Sequence[Method],
    images: Images,
    target: Any = None,
    *,
    levels: int = 10,
    fill: Fill = "mean",
    context: Context | None = None,
) -> list[Row]:
    """Explain images by each method and measure the maps.

    Args:
        methods: bound to one classifier, with different names.
        images: what is explained.
        target: None (top class), index, label, sequence or tensor; the same for all methods.
        levels: thresholds are 0, 1 / levels, ..., 1.
        fill: what removed pixels become.
        context: seed, portions and progress over the methods; each method counts for itself.

    Raises:
        BadInput: methods of several classifiers or of one name, or images that do not fit the classifier.
    """
    context = context or Context()
    classifier = _common_classifier(methods)
    pixels = classifier.check(images.pixels)
    chosen = _targets(classifier, pixels, target, context)
    runs = []
    for place, method in enumerate(methods):
        runs.append(_explain(method, pixels, chosen.index, context))
        if context.progress is not None:
            context.progress(place + 1, len(methods), "methods")
    maps = {run.attribution.method: run.attribution.heatmap() for run in runs}
    quiet = replace(context, progress=None)
    soft, binary = (
        keep_curves(classifier, pixels, maps, chosen.index, levels, mask, fill, context=quiet)
        for mask in ("soft", "binary")
    )
    shared = _shared_columns(classifier, images, pixels, chosen, {"levels": levels, "fill": fill, "seed": context.seed})
    rows = []
    for method, run in zip(methods, runs, strict=True):
        own = _columns(method, run, maps[method.name], soft[method.name], binary[method.name], images.masks)
        rows.append([_identified(common | row) for common, row in zip(shared, own, strict=True)])
    return [row for of_one_image in zip(*rows, strict=True) for row in of_one_image]


@dataclass(frozen=True)
class _Run:
    """One method's attribution of all images, and what it cost an image."""

    attribution: Attribution
    ms: float
    forwards: float
    backwards: float


def _common_classifier(methods: Sequence[Method]) -> Classifier:
    if not methods:
        raise BadInput("methods: expected at least one, got none; xaikit.methods() lists them")
    classifier = methods[0].classifier
    if any(method.classifier is not classifier for method in methods):
        raise BadInput("methods: expected all bound to one classifier, got several; score each by itself")
    names = [method.name for method in methods]
    if len(set(names)) != len(names):
        raise BadInput(f"methods: expected different names, got {', '.join(names)}; score variants by themselves")
    return classifier


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


def _explain(method: Method, pixels: Tensor, target: Tensor, context: Context) -> _Run:
    """Explain once for one image, which leaves lazy set-up behind, then all images against the clock."""
    own = replace(context, counters=Counters(), progress=None)
    attribute_all([method], pixels[:1], target[:1], replace(own, counters=Counters()))
    _wait(pixels.device)
    begin = time.perf_counter()
    (attribution,) = attribute_all([method], pixels, target, own)
    _wait(pixels.device)
    seconds = time.perf_counter() - begin
    count = len(pixels)
    return _Run(attribution, 1000 * seconds / count, own.counters.forwards / count, own.counters.backwards / count)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _shared_columns(
    classifier: Classifier, images: Images, pixels: Tensor, target: Target, protocol: dict[str, Any]
) -> list[Row]:
    """Return what all methods' rows of an image have in common."""
    names = classifier.labels
    labels = [None] * len(images.names) if images.labels is None else images.labels.tolist()
    return [
        {
            "image_id": name,
            "image_sha256": digest,
            "dataset": images.dataset,
            "model": classifier.name,
            "weights": classifier.weights,
            "model_fingerprint": classifier.fingerprint,
            "label": label,
            "label_name": names[label] if names and label is not None and 0 <= label < len(names) else None,
            "target": int(index),
            "target_name": target_name,
            **protocol,
        }
        for name, digest, label, index, target_name in zip(
            images.names, image_hashes(pixels), labels, target.index, target.names, strict=True
        )
    ]


def _columns(
    method: Method, run: _Run, maps: Tensor, soft: KeepCurve, binary: KeepCurve, masks: Tensor | None
) -> list[Row]:
    """Return what one method's rows have of their own, one an image."""
    attribution = run.attribution
    asked = {name: getattr(value, "fingerprint", value) for name, value in method.params.items()}
    known = {} if masks is None else _on_evidence(maps, masks.to(maps.device))
    return [
        {
            "method": method.name,
            "family": method.family,
            "params": canonical_json(asked),
            "found": canonical_json(_found(attribution, asked, place)),
            "layer": attribution.layer,
            "calibrated": bool(asked.get("calibrate")),
            "flags": sorted(attribution.flags[place]),
            "y": float(soft.y[place]),
            "o_soft": soft.o[place].tolist(),
            "o_binary": binary.o[place].tolist(),
            "map_mean": float(maps[place].mean()),
            "tie_share": float(soft.tie_share[place]),
            **{name: float(values[place]) for name, values in known.items()},
            "ms": run.ms,
            "forwards": run.forwards,
            "backwards": run.backwards,
            "batch": len(maps),
        }
        for place in range(len(maps))
    ]


def _found(attribution: Attribution, asked: dict[str, Any], place: int) -> dict[str, Any]:
    """Return what the method decided itself for the image in a place; of a list with one entry an image, its own."""
    decided = {name: value for name, value in attribution.params.items() if value != asked.get(name)}
    count = len(attribution)
    return {
        name: value[place] if isinstance(value, list) and len(value) == count else value
        for name, value in decided.items()
    }


def _on_evidence(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Return the share of highest points that lie on the evidence, and the share of the map's sum there, each (N,).

    A map of zeros has no sum: NaN.
    """
    highest = maps == maps.amax((1, 2), keepdim=True)
    return {
        "pointing": (highest & masks).sum((1, 2)) / highest.sum((1, 2)),
        "energy_inside": (maps * masks).sum((1, 2)) / maps.sum((1, 2)),
    }


_IDENTITY = (
    "dataset",
    "image_sha256",
    "target",
    "model_fingerprint",
    "method",
    "params",
    "layer",
    "levels",
    "fill",
    "seed",
)


def _identified(row: Row) -> Row:
    """Put first what names the row: the hash of what makes it what it is, the image and the method."""
    identity = {name: row[name] for name in _IDENTITY}
    first = {"unit_id": fingerprint(identity), "image_id": row["image_id"], "method": row["method"]}
    return first | {"schema": SCHEMA_VERSION} | row
