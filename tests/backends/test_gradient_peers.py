"""Gradient methods against peers that no row of the table can hold: changed networks, other pictures, PAIR's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tests.backends.cases import Case, case_of
from tests.backends.test_agreement import share_of_range
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

pytestmark = [pytest.mark.backends, pytest.mark.real]


def with_relu_modules(case: Case) -> Classifier:
    """Return a classifier of the same weights in which every ReLU is a module of its own."""
    graph = fx.symbolic_trace(case.classifier.module)
    calls = [node for node in graph.graph.nodes if node.op == "call_function" and node.target is F.relu]
    assert len(calls) > 10
    for place, node in enumerate(calls):
        graph.add_submodule(f"rectifier{place}", nn.ReLU())
        with graph.graph.inserting_before(node):
            node.replace_all_uses_with(graph.graph.call_module(f"rectifier{place}", (node.args[0],)))
        graph.graph.erase_node(node)
    graph.recompile()
    known = case.classifier
    return Classifier(graph, mean=known.mean.flatten().tolist(), std=known.std.flatten().tolist(), size=32)


@pytest.mark.parametrize("network", ["cifar-resnet20", "cifar-resnet56"])
@pytest.mark.parametrize("name", ["guided-backprop", "deconvolution"])
def test_captum_agrees_once_it_sees_the_relus(name: str, network: str, real_data: Path) -> None:
    pytest.importorskip("captum", reason="the extra `backends` is missing")
    case = case_of(network)
    ours = METHODS.get(name).build(case.classifier, channels=True).attribute(case.pixels, case.target)
    theirs = METHODS.get(f"captum/{name}").build(with_relu_modules(case), channels=True)
    found = theirs.attribute(case.pixels, case.target)
    assert ours.flags == found.flags == [set()] * 3
    assert torch.allclose(ours.scores, found.scores, rtol=1e-5)
    assert share_of_range(ours.values, found.values) <= 1e-4


def test_deconvolution_on_photographs_where_something_comes_back(real_data: Path) -> None:
    """In SqueezeNet all that ReLUs hand back dies on most photographs, in captum's as in ours."""
    pytest.importorskip("captum", reason="the extra `backends` is missing")
    case = case_of("squeezenet1_0", 26)
    ours = METHODS.get("deconvolution")(case.classifier).attribute(case.pixels, case.target).values
    theirs = METHODS.get("captum/deconvolution")(case.classifier).attribute(case.pixels, case.target).values
    alive = ours.flatten(1).any(1)
    assert torch.equal(alive, theirs.flatten(1).any(1))
    assert int(alive.sum()) >= 2
    assert share_of_range(ours[alive], theirs[alive]) <= 1e-4


def pair_model(case: Case, image: int) -> Callable[..., dict[str, Any]]:
    """Return the gradient of one picture's class as PAIR's methods ask for it: (m, H, W, C) in and out."""

    def gradients(places: Any, call_model_args: Any = None, expected_keys: Any = None) -> dict[str, Any]:
        inputs = torch.from_numpy(np.asarray(places)).permute(0, 3, 1, 2).requires_grad_(True)
        score = case.classifier.logits(inputs)[:, case.target[image]].sum()
        (found,) = torch.autograd.grad(score, inputs)
        return {"INPUT_OUTPUT_GRADIENTS": found.permute(0, 2, 3, 1).numpy()}

    return gradients


def by_pair(method: Any, case: Case, **params: Any) -> Tensor:
    """Return PAIR's values (n, C, H, W), image by image."""
    inputs = case.classifier.normalize(case.pixels).permute(0, 2, 3, 1).numpy()
    with case.classifier.borrowed():
        found = [method.GetMask(one, pair_model(case, place), **params) for place, one in enumerate(inputs)]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


@pytest.fixture
def pair() -> Any:
    """PAIR's package, whose import warns of what it does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("saliency.core", reason="the extra `backends` is missing")


@pytest.mark.parametrize(
    ("network", "sigma", "steps"), [("cifar-resnet20", 4, 14), ("cifar-resnet56", 4, 6), ("squeezenet1_0", 50, 6)]
)
def test_blurred_paths_agree_with_pair(network: str, sigma: int, steps: int, pair: Any, real_data: Path) -> None:
    case = case_of(network, 2, dtype=torch.float64)
    theirs = by_pair(pair.BlurIG(), case, max_sigma=sigma, steps=steps)
    ours = METHODS.get("blur-integrated-gradients").build(case.classifier, steps=steps, sigma=sigma, channels=True)
    assert share_of_range(ours.attribute(case.pixels, case.target).values, theirs) <= 1e-6


@pytest.mark.parametrize(
    ("network", "reach"),
    [("cifar-resnet20", 0.02), ("cifar-resnet20", 0.3), ("cifar-resnet56", 0.3), ("squeezenet1_0", 0.02)],
)
def test_guided_paths_agree_with_pair(
    network: str, reach: float, pair: Any, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs asks NumPy for a quantile by a word that NumPy 2.4 has dropped; it is given the new word."""
    quantile = np.quantile
    monkeypatch.setattr(
        np, "quantile", lambda values, share, interpolation: quantile(values, share, method=interpolation)
    )
    case = case_of(network, 2, dtype=torch.float64)
    start = np.zeros((*case.pixels.shape[2:], 3))
    theirs = by_pair(pair.GuidedIG(), case, x_baseline=start, x_steps=15, fraction=0.25, max_dist=reach)
    ours = METHODS.get("guided-integrated-gradients").build(case.classifier, steps=15, reach=reach, channels=True)
    assert share_of_range(ours.attribute(case.pixels, case.target).values, theirs) <= 1e-6
