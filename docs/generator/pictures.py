"""Pictures of the methods, made by the tool itself on its shipped network, and kept until code or parameters change."""

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
from xaikit.methods.base import Method
from xaikit.model.classifier import Classifier
from xaikit.zoo.load import load

CACHE = Path("out") / "docs-pictures"
PICTURED = (
    "Three drawn pictures whose class is the texture of one shape, all else being a distraction; left the picture, "
    "right the map over it. The network is the shipped texture-cnn."
)
_PARAMETERS: dict[str, dict[str, Any]] = {
    "extremal-perturbation": {"steps": 60},
    "rise": {"samples": 1000},
    "partition-shap": {"samples": 200},
    "kernel-shap": {"samples": 400},
}
"""Less work than by default, where a page would take long."""


@cache
def subject() -> tuple[Classifier, Scene]:
    """Return the network and the three pictures."""
    return load("texture-cnn", device="cpu"), draw(3, seed=3)


def pictured(entry: type[Method]) -> bool:
    """Return whether the shipped network, which has no attention, can show the maps of a method."""
    return entry.family != "attention"


@cache
def tiles(entry: type[Method]) -> list[np.ndarray[Any, Any]]:
    """Return the overlays of a method on the three pictures, each (H, W, 3) uint8."""
    classifier, scene = subject()
    key = fingerprint([own_code(), code(entry), _PARAMETERS.get(entry.name), classifier.fingerprint])
    file = CACHE / f"{entry.name}-{key}.npy"
    if file.is_file():
        return list(np.load(file))
    method = entry(classifier, **_PARAMETERS.get(entry.name, {}))
    attribution = method.attribute(scene.pixels, scene.labels)
    drawn = np.stack(
        [
            map_tile(to_picture(pixels), Map(*attribution[index : index + 1].drawable(signed=entry.signed))).picture
            for index, pixels in enumerate(scene.pixels)
        ]
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary:
        np.save(temporary, drawn)
    return list(drawn)


def picture(entry: type[Method]) -> bytes:
    """Return the three pictures beside their maps as PNG."""
    _, scene = subject()
    shown = [
        tile
        for pixels, label, overlay in zip(scene.pixels, scene.labels.tolist(), tiles(entry), strict=True)
        for tile in (Tile(CLASSES[label], to_picture(pixels), None), Tile(entry.name, overlay, None))
    ]
    return png([Row("", shown)], columns=6)


def png(rows: list[Row], columns: int) -> bytes:
    """Return rows of pictures as PNG."""
    stream = BytesIO()
    sheet(rows, columns=columns).savefig(stream, format="png")
    return stream.getvalue()
