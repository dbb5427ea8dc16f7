"""Pictures of the methods, made by the tool on its shipped networks, and kept until code or parameters change."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from xaikit.foundation.code import code, own_code
from xaikit.foundation.files import atomic
from xaikit.foundation.identity import fingerprint
from xaikit.images.drawing import Map, Row, Tile, map_tile, sheet
from xaikit.images.reading import to_picture
from xaikit.images.synthetic import CLASSES, Scene, draw
from xaikit.methods.base import Family, Method
from xaikit.model.classifier import Classifier
from xaikit.zoo.load import load

CACHE = Path("out") / "docs-pictures"
_PARAMETERS: dict[str, dict[str, Any]] = {
    "extremal-perturbation": {"steps": 60},
    "rise": {"samples": 1000},
    "partition-shap": {"samples": 200},
    "kernel-shap": {"samples": 400},
}
"""Less work than by default, where a page would take long."""


@cache
def scene() -> Scene:
    """Return the three pictures."""
    return draw(3, seed=3)


@cache
def classifier(family: Family) -> Classifier:
    """Return the shipped network that shows the methods of a family."""
    return load("texture-vit" if family == "attention" else "texture-cnn", device="cpu")


def caption(entry: type[Method]) -> str:
    """Return what the picture of a method shows, and of which network."""
    return (
        "Three drawn pictures whose class is the texture of one shape; everything else is a distraction. Each picture "
        f"stands left of its map. The network is the shipped {classifier(entry.family).name}."
    )


@cache
def tiles(entry: type[Method]) -> list[np.ndarray[Any, Any]]:
    """Return the overlays of a method on the three pictures, each (H, W, 3) uint8."""
    subject = classifier(entry.family)
    key = fingerprint([own_code(), code(entry), _PARAMETERS.get(entry.name), subject.fingerprint])
    file = CACHE / f"{entry.name}-{key}.npy"
    if file.is_file():
        return list(np.load(file))
    method = entry(subject, **_PARAMETERS.get(entry.name, {}))
    attribution = method.attribute(scene().pixels, scene().labels)
    drawn = np.stack(
        [
            map_tile(to_picture(pixels), Map(*attribution[index : index + 1].drawable(signed=entry.signed))).picture
            for index, pixels in enumerate(scene().pixels)
        ]
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary:
        np.save(temporary, drawn)
    return list(drawn)


def picture(entry: type[Method]) -> bytes:
    """Return the three pictures beside their maps as PNG."""
    shown = [
        tile
        for pixels, label, overlay in zip(scene().pixels, scene().labels.tolist(), tiles(entry), strict=True)
        for tile in (Tile(CLASSES[label], to_picture(pixels), None), Tile(entry.name, overlay, None))
    ]
    return png([Row("", shown)], columns=6)


def png(rows: list[Row], columns: int) -> bytes:
    """Return rows of pictures as PNG."""
    stream = BytesIO()
    sheet(rows, columns=columns).savefig(stream, format="png")
    return stream.getvalue()
