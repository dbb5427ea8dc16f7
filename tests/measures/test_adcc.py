"""Coherency and ADCC: by hand, on methods whose second map is known, and against pytorch-grad-cam's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from tests.networks import heatmaps, pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import unit
from xaikit.images.synthetic import draw
from xaikit.measures.base import MEASURES, Subject
from xaikit.measures.complexity.adcc import ADCC
from xaikit.measures.complexity.coherency import Coherency
from xaikit.methods.base import METHODS, Family, Method, Values
from xaikit.model.classifier import Classifier
from xaikit.run.batch import Batch
from xaikit.run.context import Context
from xaikit.run.cost import Cost
from xaikit.zoo.load import load


@dataclass(frozen=True)
class Brightness(Method):
    """The image's own first channel, as the network sees it: its map of a masked image is known."""

    name: ClassVar[str] = "brightness"
    family: ClassVar[Family] = "control"
    source: ClassVar[str] = "test"

    def compute(self, batch: Batch) -> Values:
        return Values(batch.inputs[:, 0])

    def cost(self, size: tuple[int, int]) -> Cost:
        return Cost(1)


@dataclass(frozen=True)
class Undefined(Brightness):
    """A method that has no value where the image is dark."""

    name: ClassVar[str] = "undefined"

    def compute(self, batch: Batch) -> Values:
        return Values(batch.inputs[:, 0].log())


def subject(
    maps: Tensor, classifier: Classifier | None = None, kind: type[Method] = Brightness, **about: Any
) -> Subject:
    classifier = classifier or small().eval()
    target = torch.tensor([0, 1, 2, 0])[: len(maps)]
    pixels = pictures(len(maps), classifier.channels, (maps.shape[1], maps.shape[2]))
    return Subject(classifier, pixels, maps, target, method=kind(classifier), **about)


def test_coherency_is_the_correlation_with_the_map_of_the_masked_image() -> None:
    one = subject(heatmaps(4).clamp(max=1))
    inputs = one.classifier.normalize(one.pixels)
    second = unit((inputs * one.maps[:, None])[:, 0])[0]
    expected = [
        (1 + pearsonr(first.flatten(), again.flatten()).statistic) / 2
        for first, again in zip(one.maps.double().numpy(), second.double().numpy(), strict=True)
    ]
    assert Coherency().compute(one).tolist() == pytest.approx(expected, abs=1e-5)
    assert min(expected) < max(expected) - 0.01


def test_coherency_of_maps_that_stay_and_of_maps_that_turn_round() -> None:
    """Integrated gradients of a sum are weight times pixel: what a map masks has 0, below what speaks against."""
    speak = torch.tensor([0.5] * 8 + [-0.5] * 8).reshape(1, 1, 4, 4)
    classifier = summing(speak)
    method = METHODS.get("integrated-gradients").build(classifier, steps=5)
    pixels = torch.full((2, 1, 4, 4), 0.5)
    for_it = (speak[0] > 0).float()
    one = Subject(classifier, pixels, torch.cat([for_it, 1 - for_it]), torch.tensor([1, 1]), method=method)
    assert Coherency().compute(one).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_adcc_is_the_harmonic_mean() -> None:
    one = subject(heatmaps(4).clamp(max=1))
    coherency = Coherency().compute(one)
    complexity = one.maps.double().mean((1, 2))
    drop = MEASURES.get("apd")().compute(one)
    expected = [3 / (1 / a + 1 / (1 - b) + 1 / (1 - c)) for a, b, c in zip(coherency, complexity, drop, strict=True)]
    assert ADCC().compute(one).tolist() == pytest.approx([float(value) for value in expected], abs=1e-6)
    assert float(drop.max()) > 0.01


def test_adcc_by_hand() -> None:
    """y = sigmoid(0.25), o = sigmoid(0.5); the map keeps the first of two pixels, and again when it is alone."""
    weights = torch.tensor([0.5, -0.25]).reshape(1, 1, 1, 2)
    classifier = summing(weights)
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    one = Subject(classifier, torch.ones(2, 1, 1, 2), maps, torch.tensor([1, 1]), method=Brightness(classifier))
    y, o = torch.tensor([0.25, -0.25], dtype=torch.float64).sigmoid().tolist()
    assert Coherency().compute(one).tolist() == [1.0, 1.0]
    expected = [3 / (1 + 2 + 1), 3 / (1 + 2 + y / o)]
    assert ADCC().compute(one).tolist() == pytest.approx(expected, abs=1e-9)


def test_one_explanation_and_one_forward() -> None:
    one = subject(heatmaps(4).clamp(max=1))
    spent = one.context.counters
    Coherency().compute(one)
    again = spent.forwards
    ADCC().compute(one)
    clean, floor = 4, 1
    assert spent.forwards == again + 4 * ADCC().cost().forwards + clean + floor
    assert ADCC().explanations() == Coherency().explanations() == 1
    MEASURES.get("apd")().compute(one)
    before = spent.forwards
    ADCC().compute(one)
    assert spent.forwards == before


def test_a_map_that_hides_nothing_is_worth_nothing() -> None:
    classifier, scene = load("texture-cnn"), draw(8, 5)

    def value(name: str) -> float:
        method = METHODS.get(name)(classifier)
        maps = method.attribute(scene.pixels, scene.labels).heatmap()
        return float(ADCC().compute(Subject(classifier, scene.pixels, maps, scene.labels, method=method)).mean())

    assert value("ones") == 0
    assert value("fake") < 0.01
    assert value("grad-cam") > value("center") > value("random") > 0.3


def test_constant_maps() -> None:
    """Ones mask nothing and come again; one that is constant once has no correlation."""
    maps = torch.stack([torch.ones(9, 7), torch.full((9, 7), 0.5)])
    ones = METHODS.get("ones")
    one = subject(maps, kind=ones)
    assert Coherency().compute(one).tolist() == [1.0, 0.5]
    assert float(ADCC().compute(one)[0]) == 0.0


def test_maps_that_are_not_finite_have_no_value() -> None:
    maps = heatmaps(4).clamp(max=1)
    maps[1, 0, 0] = torch.inf
    for measure in (Coherency(), ADCC()):
        assert measure.compute(subject(maps)).isnan().tolist() == [False, True, False, False]
        assert measure.compute(subject(maps, kind=Undefined)).isnan().all()


def test_maps_need_the_method_that_made_them() -> None:
    one = subject(heatmaps(2).clamp(max=1))
    one.method = None
    for measure in (Coherency(), ADCC()):
        with pytest.raises(BadInput, match="method"):
            measure.compute(one)


@pytest.mark.parametrize("kind", [Coherency, ADCC])
def test_chunks_order_and_neighbours_change_nothing(kind: type[Coherency | ADCC]) -> None:
    maps = heatmaps(4).clamp(max=1)
    whole = subject(maps)
    values = kind().compute(whole)
    one = subject(maps, context=Context(chunk_size=3))
    torch.testing.assert_close(kind().compute(one), values, rtol=0, atol=1e-6)
    order = torch.tensor([2, 0, 3, 1])
    mixed = Subject(whole.classifier, whole.pixels[order], maps[order], whole.target[order], method=whole.method)
    torch.testing.assert_close(kind().compute(mixed), values[order], rtol=0, atol=1e-6)


@pytest.mark.backends
def test_pytorch_grad_cam_measures_the_same_coherency_and_complexity() -> None:
    arcc = pytest.importorskip("pytorch_grad_cam.metrics.arcc", reason="the extra `backends` is missing")
    one = subject(heatmaps(4).clamp(max=1))
    inputs, maps = one.classifier.normalize(one.pixels), one.maps.numpy()

    def brightness(input_tensor: Tensor, targets: Any) -> np.ndarray:
        return unit(input_tensor[:, 0])[0].numpy()

    theirs = arcc.Coherency()(inputs, maps, None, one.classifier.network, brightness)
    assert Coherency().compute(one).tolist() == pytest.approx(theirs.tolist(), abs=1e-5)
    assert MEASURES.get("mean-map")().compute(one).tolist() == pytest.approx(arcc.Complexity()(maps).tolist(), abs=1e-6)
