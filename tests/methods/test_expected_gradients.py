"""Expected gradients: unbiased, reproducible, and with less variance than independent draws."""

from __future__ import annotations

import pytest
import torch

from tests.networks import DeepNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS


def test_the_sum_is_the_difference_of_the_scores_in_expectation() -> None:
    """The mean gap of 30 seeds is within four of its standard errors of zero."""
    clf, pixels, references = bound(DeepNet()), images(1), images(4, seed=9)
    method = METHODS.get("expected-gradients").build(clf, references=references, samples=8)
    gaps = torch.cat([method.attribute(pixels, 1, seed=seed).completeness for seed in range(30)])  # type: ignore[misc]
    assert float(gaps.std()) > 0
    assert abs(float(gaps.mean())) < 4 * float(gaps.std()) / 30**0.5


@pytest.mark.slow
def test_strata_and_rounds_have_less_variance_than_independent_draws() -> None:
    clf, pixels, references = bound(DeepNet()), images(1), images(4, seed=9)

    def spread(samples: int, seeds: int) -> float:
        method = METHODS.get("expected-gradients").build(clf, references=references, samples=samples)
        return float(torch.stack([method.attribute(pixels, 1, seed=one).values for one in range(seeds)]).var(0).mean())

    independent = spread(1, 160) / 32
    assert spread(32, 20) < 0.2 * independent


def test_each_reference_is_used_equally_often() -> None:
    """With as many samples as references and a constant gradient there is nothing left to chance."""
    clf, pixels, references = bound(DeepNet()), images(2), images(6, seed=9)
    method = METHODS.get("expected-gradients").build(clf, references=references, samples=18)
    with clf.borrowed():
        from xaikit.run.batch import Batch
        from xaikit.run.context import Context

        chosen, along = method._draw(Batch(clf, pixels, None, Context()), 6)  # type: ignore[attr-defined]
    for row in chosen:
        for turn in row.split(6):
            assert sorted(turn.tolist()) == list(range(6))
    assert not torch.equal(chosen[0], chosen[1])
    strata = torch.arange(18) / 18
    assert bool(((along >= strata) & (along <= strata + 1 / 18)).all())


def test_noise_depends_on_seed_and_image_alone() -> None:
    clf, pixels = bound(DeepNet()), images(3)
    method = METHODS.get("expected-gradients").build(clf, references=3, samples=6, deviation=0.2)
    whole = method.attribute(pixels, 1)
    assert torch.allclose(method.attribute(pixels[2:], 1, chunk_size=1).values, whole.values[2:], atol=1e-12)
    assert not torch.allclose(method.attribute(pixels, 1, seed=1).values, whole.values)


@pytest.mark.parametrize(
    "wrong", [{"samples": 0}, {"points": "anywhere"}, {"deviation": -1.0}, {"deviation": float("nan")}]
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"expected-gradients: points|expected .*, got .*;"):
        METHODS.get("expected-gradients").build(bound(DeepNet()), **wrong)
