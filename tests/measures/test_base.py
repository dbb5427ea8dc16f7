"""The measure and what measures share."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace
from typing import ClassVar

import pytest
import torch

from tests import networks
from xaikit.foundation.errors import BadInput
from xaikit.images.shapes import upsample
from xaikit.measures.base import Measure, Subject
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class Share(Measure):
    level: float = 0.5

    name: ClassVar[str] = "share"
    direction: ClassVar[str] = "higher"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    source: ClassVar[str] = "test"

    def compute(self, subject: Subject):
        return subject.shared("over", lambda: (subject.maps > self.level).double().mean((1, 2)))

    def cost(self):
        return Cost(0)


def subject() -> Subject:
    classifier = Classifier(networks.seeded(networks.Net, torch.float32))
    pixels = networks.images(2, dtype=torch.float32)
    return Subject(classifier, pixels, pixels.mean(1), torch.zeros(2, dtype=torch.long))


def test_shared_is_computed_once_a_subject():
    calls = []
    one, other = subject(), subject()
    for each in (one, one, other):
        assert each.shared("key", lambda: calls.append(1) or len(calls)) == (2 if each is other else 1)
    assert one.shared(("key", 2), lambda: "another key") == "another key"
    assert len(calls) == 2


def test_subjects_do_not_share_a_context():
    assert subject().context is not subject().context


def test_a_measure_is_a_frozen_value():
    measure = Share(level=0.4)
    assert measure.params == {"level": 0.4}
    assert measure == Share(0.4)
    assert measure.compute(subject()).shape == (2,)
    assert measure.needs == {"maps", "model"}
    with pytest.raises(FrozenInstanceError):
        measure.level = 1.0


def test_a_measure_without_compute_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Measure,), {})()


def test_facts_of_images_are_kept_for_all_subjects():
    asked = []

    def rows(places):
        asked.append(places.tolist())
        return one.pixels[places].mean((1, 2, 3))

    one = subject()
    expected = one.pixels.mean((1, 2, 3))
    same = replace(one, maps=1 - one.maps, _shared={})
    reverse = replace(one, pixels=one.pixels.flip(0), maps=one.maps.flip(0), _shared={})
    half = replace(one, pixels=one.pixels[:1], maps=one.maps[:1], target=one.target[:1], image_facts={}, _shared={})
    for each, values in ((one, expected), (same, expected), (reverse, expected.flip(0)), (half, expected[:1])):
        assert torch.equal(each.of_images("mean", rows), values)
    whole = replace(half, pixels=one.pixels, maps=one.maps, target=one.target, _shared={})
    assert torch.equal(whole.of_images("mean", rows), expected)
    assert asked == [[0, 1], [0], [1]]


@pytest.mark.parametrize("change", [{"target": torch.ones(2, dtype=torch.long)}, {"context": Context(seed=1)}])
def test_facts_belong_to_class_and_seed(change):
    one, asked = subject(), []
    for each in (one, replace(one, _shared={}), replace(one, **change, _shared={})):
        each.of_images("zero", lambda places: asked.append(1) or torch.zeros(len(places)))
    assert len(asked) == 2


def test_logits_are_asked_once_and_in_portions():
    one = subject()
    one.context = Context(chunk_size=1)
    with one.classifier.borrowed(), torch.no_grad():
        expected = one.classifier(one.pixels)
    torch.testing.assert_close(one.logits, expected)
    torch.testing.assert_close(replace(one, _shared={}).logits, expected)
    assert one.context.counters.forwards == 2


def test_raw_values_are_signed_and_of_the_images_size():
    one = subject()
    assert torch.equal(one.raw, one.maps.double())
    values = torch.linspace(-1, 1, 2 * 2 * 3).reshape(2, 2, 3)
    made = Attribution(values, one.target, one.target.float(), one.target.float(), "test", {}, None, one.size)
    one = replace(one, attribution=made)
    assert one.raw.dtype == torch.float64
    torch.testing.assert_close(one.raw, upsample(values.double(), one.size))
    channels = replace(one, attribution=replace(made, values=torch.stack([values, -3 * values], 1)), _shared={})
    torch.testing.assert_close(channels.raw, -2 * one.raw)


def test_a_map_is_finite_if_its_values_are():
    one = subject()
    one.maps[0, 0, 0] = torch.nan
    assert one.finite.tolist() == [False, True]
    values = torch.tensor([[[0.0]], [[torch.inf]]])
    made = Attribution(values, one.target, one.target.float(), one.target.float(), "test", {}, None, one.size)
    assert replace(one, attribution=made).finite.tolist() == [False, False]


def test_what_is_not_given_is_asked_for():
    one = subject()
    for ask in (lambda: one.evidence, lambda: one.explainer, lambda: one.explanation):
        with pytest.raises(BadInput, match="got none; give Subject"):
            ask()
    measure = Share()
    assert measure.image_cost() == Cost(0)
    assert measure.explanations() == 0
