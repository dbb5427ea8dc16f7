"""Max-sensitivity and seed stability: a linear model by hand, and methods that draw nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.networks import pictures, small, summing
from xaikit.foundation.errors import BadInput
from xaikit.measures.base import Subject
from xaikit.measures.robustness.max_sensitivity import MaxSensitivity
from xaikit.measures.robustness.seed_stability import SeedStability
from xaikit.methods.base import METHODS, Method, Values
from xaikit.model.classifier import Classifier
from xaikit.run.batch import Batch
from xaikit.run.context import Context
from xaikit.run.cost import Cost

WEIGHTS = torch.tensor([0.7, -0.2, 0.4, 0.1, -0.9, 0.3]).reshape(1, 1, 2, 3)


def of(method: Method, pixels: Tensor, target: Any = 1, **changes: Any) -> Subject:
    made = method.attribute(pixels, target)
    return Subject(method.classifier, pixels, made.heatmap(), made.target, method=method, attribution=made, **changes)


@dataclass(frozen=True)
class Inputs(Method):
    """The network's inputs summed over channels: a map that moves as the image does."""

    name: ClassVar[str] = "inputs"
    family: ClassVar[Any] = "control"
    source: ClassVar[str] = "test"

    def compute(self, batch: Batch) -> Values:
        return Values(batch.inputs.sum(1))

    def cost(self, size: tuple[int, int]) -> Cost:
        return Cost(0)


def test_a_linear_model_by_hand() -> None:
    """Integrated gradients of a linear model are w x, so that noise d moves them by w d."""
    classifier, pixels = summing(WEIGHTS), 1 - 0.5 * pictures(3, 1, (2, 3))
    measure = MaxSensitivity(radius=0.05, draws=4)
    subject = of(METHODS.get("integrated-gradients").build(classifier, steps=2), pixels)
    with torch.no_grad():
        same = [(classifier(noisy).argmax(1) == classifier(pixels).argmax(1)) for noisy in measure.noisy(subject)]
    moved = [(WEIGHTS * (noisy - pixels)).flatten(1).norm(dim=1) for noisy in measure.noisy(subject)]
    expected = torch.stack([one.where(ok, 0) for one, ok in zip(moved, same, strict=True)]).amax(0)
    expected = expected / (WEIGHTS * pixels).flatten(1).norm(dim=1)
    assert all(one.any() for one in same)
    torch.testing.assert_close(measure.compute(subject), expected.double(), rtol=1e-5, atol=0)


def test_noise_stays_within_its_radius_and_belongs_to_the_image() -> None:
    classifier, pixels = small(), pictures(3)
    measure = MaxSensitivity(radius=0.1, draws=5)
    noise = torch.stack(measure.noisy(of(Inputs(classifier), pixels))) - pixels
    assert float(noise.abs().amax()) == pytest.approx(0.1, abs=0.005)
    assert abs(float(noise.mean())) < 0.01
    alone = torch.stack(measure.noisy(of(Inputs(classifier), pixels[1:2]))) - pixels[1:2]
    torch.testing.assert_close(alone[:, 0], noise[:, 1])
    other = measure.noisy(of(Inputs(classifier), pixels, context=Context(seed=1)))
    assert not torch.equal(other[0], measure.noisy(of(Inputs(classifier), pixels))[0])


def test_noise_that_changes_the_class_does_not_count() -> None:
    """One pixel at the boundary: half of the noise makes it class 0, and all of it moves a map of inputs."""
    classifier, pixels = summing(), torch.tensor([[[[0.5, -0.5]]], [[[0.9, 0.8]]]])
    measure = MaxSensitivity(radius=0.3, draws=30)
    subject = of(Inputs(classifier), pixels, [1, 1])
    subject.target = torch.tensor([1, 1])
    kept = []
    with torch.no_grad():
        top = classifier(pixels).argmax(1)
        for noisy in measure.noisy(subject):
            change = (noisy - pixels).flatten(1).norm(dim=1) / pixels.flatten(1).norm(dim=1)
            kept.append(change.masked_fill(classifier(noisy).argmax(1) != top, 0))
    changed = torch.stack(kept)
    assert 5 < int((changed[:, 0] == 0).sum()) < 25
    torch.testing.assert_close(measure.compute(subject), changed.amax(0).double(), rtol=1e-5, atol=0)


def test_where_all_noise_changes_the_class_there_is_no_value() -> None:
    classifier, pixels = summing(1e6), torch.full((1, 1, 1, 1), 1e-9)
    values = [
        MaxSensitivity(draws=1).compute(of(Inputs(classifier), pixels, context=Context(seed=s))) for s in range(8)
    ]
    assert 0 < sum(bool(one.isnan()) for one in values) < 8


def test_maps_that_do_not_move() -> None:
    classifier, pixels = small(), pictures(3)
    assert MaxSensitivity().compute(of(METHODS.get("ones")(classifier), pixels)).tolist() == [0.0] * 3
    zeros = of(METHODS.get("integrated-gradients").build(classifier, steps=2), torch.full((1, 3, 9, 7), 0.45))
    assert MaxSensitivity().compute(zeros).isnan().all()


@pytest.mark.parametrize("name", ["grad-cam", "ones", "edges", "saliency"])
def test_methods_that_draw_nothing_are_stable(name: str) -> None:
    assert SeedStability().compute(of(METHODS.get(name)(small()), pictures(3))).tolist() == [1.0] * 3


def test_a_method_that_only_draws_is_not() -> None:
    values = SeedStability().compute(of(METHODS.get("random")(small()), pictures(3, size=(40, 40))))
    assert (values.abs() < 0.05).all()


def test_seeds_are_the_runs_own_and_the_next() -> None:
    classifier, pixels, method = small(), pictures(2), METHODS.get("random")(small())
    made = [method.attribute(pixels, 0, seed=seed).values.double().flatten(1) for seed in (7, 8, 9)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = torch.stack([torch.stack([_rho(made[a][row], made[b][row]) for row in (0, 1)]) for a, b in pairs])
    subject = Subject(
        classifier, pixels, torch.ones(2, 9, 7), torch.zeros(2).long(), method=method, context=Context(seed=7)
    )
    torch.testing.assert_close(SeedStability(seeds=3).compute(subject), expected.mean(0))


def _rho(one: Tensor, other: Tensor) -> Tensor:
    return torch.corrcoef(torch.stack([one.argsort().argsort(), other.argsort().argsort()]).double())[0, 1]


@pytest.mark.parametrize(
    ("measure", "arguments"),
    [(SeedStability, {"seeds": 1}), (MaxSensitivity, {"draws": 0}), (MaxSensitivity, {"radius": 0.0})],
)
def test_parameters_that_do_not_fit_are_refused(measure: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="expected"):
        measure(**arguments)


def test_what_is_declared_is_spent() -> None:
    classifier: Classifier = small()
    method = METHODS.get("saliency")(classifier)
    for measure, explanations in ((MaxSensitivity(draws=3), 3), (SeedStability(seeds=4), 3)):
        subject = of(method, pictures(2), context=Context())
        measure.compute(subject)
        assert measure.explanations() == explanations
        assert subject.context.counters.backwards == 2 * explanations
