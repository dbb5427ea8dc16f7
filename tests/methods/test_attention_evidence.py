"""Where the evidence is known to the pixel: attention methods point at the object that carries the class."""

from __future__ import annotations

import pytest

import xaikit
from xaikit.images.synthetic import draw

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["attention-rollout", "generic-attention", "transformer-attribution", "attn-lrp"])
def test_they_point_at_the_object(method: str) -> None:
    clf, scene = xaikit.load("texture-vit", device="cpu"), draw(24, seed=11)
    made = xaikit.attribute(clf, scene.pixels, scene.labels, method)
    found = xaikit.measure(clf, scene.pixels, made, ["pointing-game", "energy-inside"], masks=scene.objects)
    assert found["pointing-game"].mean() >= 0.75
    assert found["energy-inside"].mean() >= 1.8 * scene.objects.float().mean()
