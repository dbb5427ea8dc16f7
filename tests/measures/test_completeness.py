"""Completeness gap: in closed form, and for methods that promise nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.networks import pictures, small, summing
from xaikit.measures.base import Subject
from xaikit.measures.faithfulness.completeness import CompletenessGap
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier


def gap(classifier: Classifier, name: str, **params: Any) -> torch.Tensor:
    pixels = pictures(4, classifier.channels, (4, 5))
    method = METHODS.get(name).build(classifier, **params)
    made = method.attribute(pixels, 1)
    return CompletenessGap().compute(Subject(classifier, pixels, made.heatmap(), made.target, attribution=made))


def test_a_linear_model_has_none() -> None:
    weights = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        gap(summing(weights), "integrated-gradients", steps=1), torch.zeros(4).double(), rtol=0, atol=1e-6
    )


def test_it_is_the_difference_of_scores_that_was_promised() -> None:
    classifier, pixels = small(), pictures(4, size=(4, 5))
    made = METHODS.get("integrated-gradients").build(classifier, steps=2).attribute(pixels, 1)
    with classifier.borrowed(), torch.no_grad():
        mean = torch.zeros_like(pixels)
        promised = (classifier(pixels) - classifier.logits(mean))[:, 1].double()
    expected = (made.values.double().sum((1, 2)) - promised).abs() / promised.abs()
    found = gap(classifier, "integrated-gradients", steps=2)
    assert (found > 1e-4).all()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_full_grad_promises_the_score_and_shows_something_else() -> None:
    classifier, pixels = small(), pictures(4, size=(4, 5))
    made = METHODS.get("full-grad")(classifier).attribute(pixels, 1)
    assert made.completeness is not None
    wrong = replace(made, completeness=made.completeness + 0.25 * made.scores)
    found = CompletenessGap().compute(Subject(classifier, pixels, made.heatmap(), made.target, attribution=wrong))
    assert found.tolist() == pytest.approx([0.25] * 4, abs=1e-4)


@pytest.mark.parametrize("name", ["grad-cam", "saliency", "ones"])
def test_methods_that_promise_nothing_have_no_value(name: str) -> None:
    assert gap(small(), name).isnan().all()


def test_a_small_promise_does_not_blow_up() -> None:
    classifier, pixels = small(), torch.full((1, 3, 4, 5), 0.45)
    made = METHODS.get("integrated-gradients").build(classifier, steps=2).attribute(pixels, 1)
    made = replace(made, completeness=torch.tensor([1e-4]), values=made.values * 0)
    found = CompletenessGap().compute(Subject(classifier, pixels, made.heatmap(), made.target, attribution=made))
    assert found.tolist() == pytest.approx([0.1])


def test_without_an_attribution_there_is_no_value() -> None:
    subject = Subject(small(), pictures(2), torch.rand(2, 9, 7), torch.zeros(2).long())
    assert CompletenessGap().compute(subject).isnan().all()
