"""The measure and what measures share."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest
import torch

from tests.core import nets
from xaikit.core.classifier import Classifier
from xaikit.core.measure import Measure, Subject
from xaikit.core.method import Cost


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
    classifier = Classifier(nets.made(nets.Net, torch.float32))
    pixels = nets.pixels(2, dtype=torch.float32)
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
