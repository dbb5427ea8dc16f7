"""Where the evidence is known to the pixel: perturbation methods point at the object that carries the class."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import xaikit
from xaikit.images.synthetic import Scene, draw
from xaikit.methods.base import METHODS

pytestmark = pytest.mark.slow

IMAGES = 24
ENERGY = 1.5  # share of the map's mass inside the object, over the object's share of the image
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "occlusion": ("occlusion", {"score": "probability"}),
    "feature-ablation": ("feature-ablation", {"score": "probability"}),
    "rise": ("rise", {"samples": 1500}),
    "rise, centred": ("rise", {"samples": 300, "variant": "centred"}),
    "lime": ("lime", {"samples": 200}),
    "kernel-shap": ("kernel-shap", {"samples": 300, "score": "probability"}),
    "partition-shap": ("partition-shap", {"samples": 150, "score": "probability"}),
}


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Drawn images that the network takes for what they are."""
    clf = xaikit.load("texture-cnn", device="cpu")
    drawn = draw(2 * IMAGES, seed=11)
    right = (clf.probabilities(drawn.pixels).argmax(1) == drawn.labels).nonzero()[:IMAGES, 0]
    return Scene(*(getattr(drawn, name)[right] for name in ("pixels", "labels", "objects", "distractors")))


def pointing(values: Tensor, objects: Tensor) -> float:
    """Return the share of maps whose highest pixel lies on the object, or within 15 / 224 of the side of it."""
    margin = round(15 / 224 * values.shape[-1])
    near = torch.nn.functional.max_pool2d(objects[:, None].float(), 2 * margin + 1, 1, margin)[:, 0]
    return float(near.flatten(1).gather(1, values.flatten(1).argmax(1, keepdim=True)).mean())


def energy(values: Tensor, objects: Tensor) -> float:
    """Return the share of the positive mass inside the object, over the object's share of the image."""
    positive = values.relu()
    inside = (positive * objects).sum((1, 2)) / positive.sum((1, 2)).clamp(min=1e-12)
    return float((inside / objects.float().mean((1, 2))).mean())


def test_they_point_at_the_object(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """The offset that plain RISE has everywhere is taken off before its energy is measured."""
    clf = xaikit.load("texture-cnn", device="cpu")
    rows = {}
    for title, (name, params) in SETTINGS.items():
        values = METHODS.get(name).build(clf, **params).attribute(scene.pixels, scene.labels).values
        above = values - values.flatten(1).median(1).values[:, None, None] if title == "rise" else values
        rows[title] = pointing(values, scene.objects), energy(above, scene.objects)
    lines = [f"{title:18s} {points:13.2f} {inside:22.2f}" for title, (points, inside) in rows.items()]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", "method             pointing game   energy inside / area", *lines, ""]))
    for title, (points, inside) in rows.items():
        assert points >= 0.9, title
        assert inside >= ENERGY, title
