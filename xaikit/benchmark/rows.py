"""The columns of a row: what is known of an image, what a method found in it, and the curves of its map.

Shapes: pixels (N, C, H, W) in [0, 1]; labels (N,); masks (N, H, W) bool; o (N, T), T = levels + 1 thresholds.
Units: milliseconds an image, explained in one batch with the others; forwards and backwards are images sent through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import canonical_json
from xaikit.images.hashes import image_hashes
from xaikit.measures.removal.curve import KeepCurve
from xaikit.methods.base import Method
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target
from xaikit.run.attribution import Attribution

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


def shared_columns(
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


def own_columns(
    method: Method, run: Run, maps: Tensor, soft: KeepCurve, binary: KeepCurve, masks: Tensor | None
) -> list[Row]:
    """Return what one method's rows have of their own, one an image."""
    attribution = run.attribution
    asked = {name: getattr(value, "fingerprint", value) for name, value in method.params.items()}
    known = {} if masks is None else _on_evidence(maps, masks.to(maps.device))
    return [
        {
            "family": method.family,
            "params": canonical_json(asked),
            "found": canonical_json(_found(attribution, asked, place)),
            "layer": attribution.layer,
            "calibrated": bool(asked.get("calibrate")),
            "flags": sorted(attribution.flags[place]),
            "y": float(soft.y[place]),
            "floor": float(soft.floor[place]),
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
