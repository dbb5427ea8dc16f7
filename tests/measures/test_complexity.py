"""Sparseness and entropy in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from tests.networks import pictures, small
from xaikit.measures.base import Measure, Subject
from xaikit.measures.complexity.entropy import Entropy
from xaikit.measures.complexity.sparseness import Sparseness
from xaikit.methods.base import METHODS


def value(measure: Measure, values: list[float]) -> float:
    maps = torch.tensor([[values]])
    return float(measure.compute(Subject(small(), pictures(1, size=(1, len(values))), maps, torch.tensor([0])))[0])


@pytest.mark.parametrize(
    ("values", "gini", "entropy"),
    [
        ([1.0] * 8, 0.0, 1.0),
        ([0.0] * 7 + [3.0], 7 / 8, 0.0),
        ([0.0] * 4 + [2.0] * 4, 1 / 2, math.log(4) / math.log(8)),
        ([4.0, 1.0, 3.0, 2.0], 0.25, sum(-q * math.log(q) for q in (0.4, 0.1, 0.3, 0.2)) / math.log(4)),
        ([-4.0, 1.0, 3.0, -2.0], 0.25, sum(-q * math.log(q) for q in (0.4, 0.1, 0.3, 0.2)) / math.log(4)),
    ],
)
def test_closed_form(values: list[float], gini: float, entropy: float) -> None:
    assert value(Sparseness(), values) == pytest.approx(gini, abs=1e-12)
    assert value(Entropy(), values) == pytest.approx(entropy, abs=1e-12)


@pytest.mark.parametrize("measure", [Sparseness(), Entropy()], ids=lambda one: one.name)
def test_scale_does_not_matter_and_zeros_have_no_value(measure: Measure) -> None:
    values = [0.3, 0.1, 0.0, 0.7, 0.2]
    assert value(measure, [1e-6 * one for one in values]) == pytest.approx(value(measure, values), abs=1e-6)
    assert math.isnan(value(measure, [0.0] * 5))


def test_one_pixel_has_no_entropy() -> None:
    assert math.isnan(value(Entropy(), [1.0]))


@pytest.mark.parametrize("measure", [Sparseness(), Entropy()], ids=lambda one: one.name)
def test_magnitudes_are_those_of_the_raw_values(measure: Measure) -> None:
    classifier, pixels = small(), pictures(2)
    made = METHODS.get("integrated-gradients").build(classifier, steps=5).attribute(pixels, 0)
    whole = measure.compute(Subject(classifier, pixels, made.heatmap(), made.target, attribution=made))
    torch.testing.assert_close(whole, measure.compute(Subject(classifier, pixels, made.values.abs(), made.target)))
