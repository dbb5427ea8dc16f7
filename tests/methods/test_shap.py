"""Kernel SHAP and partition SHAP: the axioms of Shapley values, and the package shap on the same coalitions."""

from __future__ import annotations

import math
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.methods.replicas.perturbation import game, shapley
from tests.networks import DeepNet, LinearNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import generator
from xaikit.methods.base import METHODS
from xaikit.methods.perturbation.kernel_shap import draw_coalitions, solve
from xaikit.methods.perturbation.partition_shap import _owen_values


def shap() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    return shap


def coalition_values(kept: Tensor, seed: int = 0) -> Tensor:
    """Return a game with interactions of every order, one value a row; pairs alone solve those of order two exactly."""
    a = torch.rand(kept.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.3
    z = kept.double()
    return z @ a + 0.5 * (z[:, :-1] * z[:, 1:]).sum(1) + torch.tanh(2 * z @ a - 1)


def solved(count: int, samples: int, seed: int = 0) -> Tensor:
    kept, weights = draw_coalitions(count, samples, generator(seed, "test"))
    ends = coalition_values(torch.tensor([[False] * count, [True] * count]))
    return solve(kept, weights, coalition_values(kept), *ends)


@pytest.mark.parametrize("count", range(1, 11))
def test_all_coalitions_give_shapley_values(count: int) -> None:
    every = torch.tensor([[bool(number >> place & 1) for place in range(count)] for number in range(2**count)])
    values = coalition_values(every) if count > 1 else every[:, 0].double()
    table = {frozenset(row.nonzero()[:, 0].tolist()): float(value) for row, value in zip(every, values, strict=True)}
    kept, weights = draw_coalitions(count, 2**count - 2, generator(0, "test"))
    assert len(kept) == max(0, 2**count - 2)
    found = solve(kept, weights, values[(kept.long() * 2 ** torch.arange(count)).sum(1)], values[0], values[-1])
    assert torch.allclose(found, shapley(table), atol=1e-9)


def test_ten_segments_of_a_network_to_a_millionth() -> None:
    clf, x = bound(DeepNet()), images(1)
    numbers = (torch.arange(8) // 4)[:, None] * 5 + (torch.arange(8) * 5 // 8)
    found = METHODS.get("kernel-shap").build(clf, segmentation=numbers).attribute(x, 1)
    expected = shapley(game(clf, x[0], numbers, 1, torch.zeros(3, 1, 1, dtype=x.dtype)))
    assert torch.allclose(found.values[0], expected[numbers], atol=1e-6)
    assert found.params["samples"] == 1022


@pytest.mark.parametrize(("count", "samples"), [(16, 60), (30, 400), (64, 2176), (14, 2000)])
def test_drawn_coalitions(count: int, samples: int) -> None:
    """All of the outermost sizes, the rest in pairs; the weights of each size sum to what the kernel gives it."""
    kept, weights = draw_coalitions(count, samples, generator(0, "test"))
    sizes = kept.sum(1)
    assert 0.8 * min(samples, 2**count - 2) <= len(kept) <= samples
    assert 1 <= int(sizes.min()) <= int(sizes.max()) <= count - 1
    assert len(kept.unique(dim=0)) == len(kept)
    rows = {tuple(row.tolist()): float(weight) for row, weight in zip(kept, weights, strict=True)}
    assert all(math.isclose(rows[tuple(not one for one in row)], weight) for row, weight in rows.items())
    kernel = {size: (count - 1) / (size * (count - size)) for size in range(1, count)}
    assert math.isclose(float(weights.sum()), sum(kernel.values()))
    if samples >= 2 * count / kernel[1] * sum(kernel.values()) / 2:
        assert int((sizes == 1).sum()) == count
        assert math.isclose(float(weights[sizes == 1].sum()), kernel[1])


def test_efficiency_is_exact_for_any_samples() -> None:
    for samples in (40, 70, 300):
        ends = coalition_values(torch.tensor([[False] * 20, [True] * 20]))
        assert math.isclose(float(solved(20, samples).sum()), float(ends[1] - ends[0]), abs_tol=1e-12)
    found = METHODS.get("kernel-shap").build(bound(DeepNet()), segments=20, samples=60).attribute(images(3))
    assert float(found.completeness.abs().max()) < 1e-12


def test_more_samples_come_nearer_to_shapley_values() -> None:
    exact = solved(12, 4094)
    errors = [float(np.mean([(solved(12, n, s) - exact).abs().mean() for s in range(5)])) for n in (40, 200, 1000)]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_segments_that_do_nothing_or_the_same() -> None:
    """A black segment on black is a dummy; two segments with the same pixels and weights are worth the same."""
    clf, x = bound(LinearNet()), images(1)
    weight = clf.network.fc.weight.data.reshape(4, 3, 8, 8)
    weight[..., 4:] = weight[..., :4]
    x[..., 4:] = x[..., :4]
    x[..., :2, :] = 0
    numbers = (torch.arange(8) // 2)[:, None] * 2 + torch.arange(8) // 4
    for samples in (None, 100):
        found = METHODS.get("kernel-shap").build(clf, segmentation=numbers, samples=samples).attribute(x, 1).values[0]
        assert float(found[:2].abs().max()) < 1e-10
        assert torch.allclose(found[:, :4], found[:, 4:], atol=1e-10)
        assert float(found.abs().max()) > 0.01


@pytest.mark.parametrize(("count", "samples"), [(8, 10_000), (16, 200)])
def test_shap_solves_the_same_regression(count: int, samples: int) -> None:
    """With l1_reg=0 its values from its own coalitions are ours from the same ones; where it has all, from ours too."""

    def values(masks: Any) -> Any:
        return coalition_values(torch.from_numpy(masks) > 0.5).numpy()

    np.random.seed(0)  # noqa: NPY002 - theirs draws from it
    explainer = shap().KernelExplainer(values, np.zeros((1, count)))
    theirs = torch.from_numpy(explainer.shap_values(np.ones(count), nsamples=samples, l1_reg=0, silent=True))
    used = explainer.nsamplesAdded
    kept = torch.from_numpy(explainer.maskMatrix[:used]) > 0.5
    ends = coalition_values(torch.tensor([[False] * count, [True] * count]))
    found = solve(kept, torch.from_numpy(explainer.kernelWeights[:used]), coalition_values(kept), *ends)
    assert torch.allclose(found, theirs, atol=1e-8)
    if count == 8:
        assert torch.allclose(solved(8, 254), theirs, atol=1e-8)


def test_partition_sums_to_the_difference_and_ignores_a_constant() -> None:
    clf, x = bound(DeepNet()), images(2)
    for samples in (4, 37, 150):
        found = METHODS.get("partition-shap").build(clf, samples=samples).attribute(x, 1)
        drop = (clf(x) - clf(torch.zeros_like(x))).detach()[:, 1]
        assert torch.allclose(found.values.sum((1, 2)), drop, atol=1e-10)
        assert float(found.completeness.abs().max()) < 1e-10
    shifted = bound(DeepNet())
    shifted.network.head[2].bias.data += 3
    again = METHODS.get("partition-shap").build(shifted, samples=150).attribute(x, 1)
    assert torch.allclose(again.values, found.values, atol=1e-10)


def test_partition_is_shaps_own_for_images() -> None:
    """Theirs masks pictures, ours plays the same game on masks; the hierarchy and the recursion are the same."""
    clf, x = bound(DeepNet()), images(1)
    picture = x[0].permute(1, 2, 0).numpy()

    def predict(pictures: Any) -> Any:
        return clf(torch.from_numpy(pictures).permute(0, 3, 1, 2)).detach().numpy()[:, 1]

    np.random.seed(0)  # noqa: NPY002 - theirs breaks ties by it
    masker = shap().maskers.Image(np.zeros((8, 8, 3)), shape=(8, 8, 3))
    explainer = shap().PartitionExplainer(predict, masker)
    theirs = explainer(picture[None], max_evals=60, batch_size=10, silent=True).values[0].sum(2)

    def scores(masks: Any) -> Any:
        return predict(np.where(masks.reshape(-1, 8, 8, 1), picture, 0))

    assert np.allclose(_owen_values(scores, (8, 8), 60, 0), theirs, atol=1e-10)
    found = METHODS.get("partition-shap").build(clf, samples=60).attribute(x, 1)
    assert np.allclose(found.values[0].numpy(), theirs, atol=1e-10)


@pytest.mark.parametrize(("count", "samples"), [(64, 128), (16, 32), (8, 16)])
def test_coalitions_that_leave_values_open_are_refused(count: int, samples: int) -> None:
    nothing = torch.zeros((), dtype=torch.float64)
    ranks = []
    for seed in range(8):
        kept, weights = draw_coalitions(count, samples, generator(seed, "test"))
        truth = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        scores = kept.double() @ truth
        ranks.append(int(torch.linalg.matrix_rank(kept[:, :-1].double() - kept[:, -1:].double())))
        if ranks[-1] < count - 1:
            with pytest.raises(BadInput, match=f"determine the values of {count} segments, got {len(kept)} different"):
                solve(kept, weights, scores, nothing, truth.sum())
        else:
            assert torch.allclose(solve(kept, weights, scores, nothing, truth.sum()), truth, atol=1e-9)
    assert min(ranks) < count - 1


def test_a_score_that_is_no_number_makes_the_values_invalid() -> None:
    kept, weights = draw_coalitions(4, 14, generator(0, "test"))
    scores = kept.double().sum(1)
    scores[3] = torch.nan
    assert solve(kept, weights, scores, scores[0] * 0, scores[0]).isnan().all()
