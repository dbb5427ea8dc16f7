"""Infidelity and max-sensitivity against captum, on the very regions and noise that ours draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.networks import pictures, small
from xaikit.foundation.identity import generators
from xaikit.images.hashes import image_hashes
from xaikit.measures.base import Subject
from xaikit.measures.faithfulness.infidelity import ExplainedFraction, Infidelity
from xaikit.measures.faithfulness.subsets import Patches
from xaikit.measures.robustness.max_sensitivity import MaxSensitivity
from xaikit.methods.base import METHODS

pytestmark = pytest.mark.backends


@pytest.fixture
def subject() -> Subject:
    classifier, pixels = small(channels=1, dtype=torch.float64), pictures(3, 1, (18, 21)).double()
    method = METHODS.get("integrated-gradients").build(classifier, steps=8)
    made = method.attribute(pixels)
    return Subject(classifier, pixels, made.heatmap(), made.target, method=method, attribution=made)


def test_infidelity(subject: Subject) -> None:
    """Theirs takes the perturbation times the map; for contributions that is the square itself."""
    metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
    classifier, squares = subject.classifier, Patches(50, "mean", (0.1, 0.3))
    streams = generators(0, image_hashes(subject.pixels), repr(squares))
    found = []
    for image, stream in enumerate(streams):
        inside = squares.inside(squares.draw(stream, subject.size), subject.size)[:, None].double()

        def perturb(inputs: Tensor, inside: Tensor = inside) -> tuple[Tensor, Tensor]:
            return inside, inputs * (1 - inside)

        with classifier.borrowed():
            found.append(
                metrics.infidelity(
                    classifier.logits,
                    perturb,
                    classifier.normalize(subject.pixels[image : image + 1]),
                    subject.raw[image : image + 1, None],
                    target=int(subject.target[image]),
                    n_perturb_samples=50,
                    normalize=True,
                )
            )
    ours = Infidelity(patches=50, sides=(0.1, 0.3)).compute(subject)
    assert (ExplainedFraction(patches=50, sides=(0.1, 0.3)).compute(subject) > 0.1).all()
    torch.testing.assert_close(ours, torch.cat(found), rtol=1e-9, atol=0)


def test_max_sensitivity(subject: Subject) -> None:
    """Theirs counts noise that changes the top class too, and takes a map of zeros to have norm 1; here is neither."""
    metrics = pytest.importorskip("captum.metrics", reason="captum is not installed")
    measure, classifier, method = MaxSensitivity(draws=6), subject.classifier, subject.explainer
    noisy = torch.stack(measure.noisy(subject), 1)
    with classifier.borrowed(), torch.no_grad():
        for draw in noisy.unbind(1):
            assert torch.equal(classifier(draw).argmax(1), subject.target)

    def explain(inputs: Any, image: int) -> tuple[Tensor]:
        inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        return (method.attribute(inputs, int(subject.target[image])).values,)

    for image in range(3):
        theirs = metrics.sensitivity_max(
            lambda inputs, image=image: explain(inputs, image),
            subject.pixels[image : image + 1],
            lambda inputs, radius, image=image: noisy[image],
            n_perturb_samples=6,
        )
        torch.testing.assert_close(measure.compute(subject)[image : image + 1], theirs.double(), rtol=1e-6, atol=0)
