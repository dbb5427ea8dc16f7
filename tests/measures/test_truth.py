"""Measures on images whose evidence is known: where the object is must score above where it is not.

The order is that of a network that reads the texture inside the object and nothing else (see data/synthetic.py). An
object mask gives no order inside the object, so that a method may score above it; nothing here says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from xaikit.images.synthetic import Scene, draw
from xaikit.measures.removal.keep_curve import KeepCurve, keep_curves
from xaikit.measures.removal.protocol import Mask
from xaikit.methods.base import METHODS, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context
from xaikit.zoo.load import load

SEED = 5
METHOD_NAMES = ("grad-cam", "center", "random", "random-grid", "ones", "fake")

# map: keep-auc soft, keep-auc binary, deletion area, apd at t = 0 and its mean below 1, ir at t = 0; measured outside
# the project on another network of this size and other images of this kind.
REFERENCE = {
    "object": (0.944, 0.939, 0.240, 0.000, 0.000, 0.970),
    "grad-cam": (0.931, 0.936, 0.232, 0.007, 0.007, 0.275),
    "center": (0.829, 0.864, 0.445, 0.043, 0.113, 0.090),
    "random-grid": (0.690, 0.725, 0.719, 0.035, 0.254, 0.110),
    "random": (0.642, 0.691, 0.693, 0.082, 0.307, 0.055),
    "ones": (0.632, 0.632, 0.629, 0.000, 0.312, 0.000),
    "anti-oracle": (0.173, 0.241, 0.939, 0.823, 0.822, 0.000),
}


Areas = dict[str, float]


@dataclass(frozen=True)
class Evidence:
    """Drawn images, the network that reads their texture, and maps from right to wrong."""

    classifier: Classifier
    scene: Scene
    maps: dict[str, Tensor]

    def curves(self, maps: dict[str, Tensor], mask: Mask) -> dict[str, KeepCurve]:
        return keep_curves(self.classifier, self.scene.pixels, maps, self.scene.labels, mask=mask)

    @cached_property
    def soft(self) -> dict[str, KeepCurve]:
        return self.curves(self.maps, "soft")

    @cached_property
    def kept(self) -> Areas:
        """The area under the confidence while the lowest pixels go first (LeRF)."""
        return areas(self.curves(self.maps, "binary"))

    @cached_property
    def deleted(self) -> Areas:
        """The area under the confidence while the highest pixels go first (MoRF)."""
        return areas(self.curves({name: 1 - one for name, one in self.maps.items()}, "binary"))

    @cached_property
    def gap(self) -> Areas:
        """LeRF - MoRF: 0 for a map that knows nothing, whatever the network makes of half an image."""
        return {name: self.kept[name] - self.deleted[name] for name in self.maps}


def areas(curves: dict[str, KeepCurve]) -> Areas:
    return {name: float(curve.auc().mean()) for name, curve in curves.items()}


def evidence(count: int) -> Evidence:
    classifier, scene = load("texture-cnn"), draw(count, SEED)
    methods = [METHODS.get(name)(classifier) for name in METHOD_NAMES]
    found = attribute_all(methods, scene.pixels, scene.labels, Context())
    maps = {"object": scene.objects.float(), "anti-oracle": (~scene.objects).float()}
    return Evidence(classifier, scene, maps | {one.method: one.heatmap() for one in found})


@pytest.fixture(scope="module")
def few() -> Evidence:
    return evidence(12)


@pytest.fixture(scope="module")
def many() -> Evidence:
    return evidence(120)


def assert_order(scores: Areas) -> None:
    assert min(scores["object"], scores["grad-cam"]) > scores["center"]
    blind = [scores[name] for name in ("random", "random-grid", "ones")]
    assert scores["center"] > max(blind)
    assert min(blind) > scores["anti-oracle"]


@pytest.mark.slow
def test_the_order_holds_on_a_few_images(few: Evidence) -> None:
    assert_order(few.kept)
    assert_order(few.gap)


@pytest.mark.slow
def test_drop_at_zero_alone_rewards_a_map_that_explains_nothing(few: Evidence) -> None:
    """Why curves and controls stand beside it: one zero pixel costs no confidence at t = 0, and shows itself later."""
    soft = few.curves({name: few.maps[name] for name in ("fake", "grad-cam")}, "soft")
    fake, real = soft["fake"].apd(), soft["grad-cam"].apd()
    assert float(fake[0]) <= float(real[0]) + 1e-3
    assert float(fake[6]) > float(real[6]) + 0.2
    assert abs(few.gap["fake"]) < 0.05 < few.gap["grad-cam"]


@pytest.mark.slow
def test_the_order_holds_on_many_images(many: Evidence) -> None:
    assert_order(many.kept)
    assert_order(many.gap)
    assert abs(many.gap["random"]) < 0.03
    assert many.gap["anti-oracle"] < -0.5


@pytest.mark.slow
def test_values_are_near_the_reference(many: Evidence) -> None:
    """Another network and other images: within 0.15 of the reference; the message is the whole table."""
    table, far = [], False
    for name, expected in REFERENCE.items():
        scalars = many.soft[name].scalars()
        found = (scalars["keep_auc"], many.kept[name], many.deleted[name])
        found += (scalars["apd@t0"], scalars["apd_mean"], scalars["ir@t0"])
        pairs = list(zip(found, expected, strict=True))
        table.append(f"{name:12s} " + " ".join(f"{ours:.3f} ({theirs:.3f})" for ours, theirs in pairs))
        far |= any(abs(ours - theirs) > 0.15 for ours, theirs in pairs)
    assert not far, "\n".join(table)


@pytest.mark.slow
def test_a_corrupted_object_mask_scores_worse_and_worse(many: Evidence) -> None:
    objects = many.maps["object"]
    noise = torch.rand(objects.shape, generator=torch.Generator().manual_seed(0))
    weights = [0.0, 0.3, 0.45, 0.55, 0.7, 1.0]
    mixed = {str(weight): (1 - weight) * objects + weight * noise for weight in weights}
    scores = areas(many.curves(mixed, "binary"))
    assert spearmanr(weights, list(scores.values())).statistic <= -0.9
