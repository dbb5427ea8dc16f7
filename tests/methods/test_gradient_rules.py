"""Guided backpropagation and deconvolution: which ReLUs count, and what is said where some or all do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import networks
from tests.networks import Activated, GAPNet, LinearNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

RULES = ["guided-backprop", "deconvolution"]


@pytest.mark.parametrize("name", RULES)
def test_differs_from_the_gradient_and_keeps_the_scores(name: str) -> None:
    clf = bound(GAPNet())
    x = images()
    found = METHODS.get(name).build(clf, channels=True).attribute(x)
    plain = METHODS.get("saliency").build(clf, channels=True).attribute(x)
    assert torch.equal(found.scores, plain.scores)
    assert float((found.values - plain.values).abs().max()) > 0.1 * float(plain.values.abs().max())
    assert found.flags == [set()] * 3


def test_guided_is_the_gradient_where_all_signals_are_positive() -> None:
    network = GAPNet()
    clf = bound(network)
    with torch.no_grad():
        network.conv2.weight.abs_()
        network.fc.weight.abs_()
    found = METHODS.get("guided-backprop").build(clf, channels=True).attribute(images(), 2)
    plain = METHODS.get("saliency").build(clf, channels=True).attribute(images(), 2)
    assert torch.allclose(found.values, plain.values, rtol=0, atol=1e-14)
    assert float(plain.values.abs().max()) > 0


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("low", [F.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0, 2, inplace=True)])
def test_relus_with_an_upper_bound_count_as_relus(name: str, low: Callable[[Tensor], Tensor]) -> None:
    """Below the bound they are ReLUs; above it nothing passes in guided backpropagation."""
    x = images()
    expected = METHODS.get(name).build(bound(Activated(F.relu)), channels=True).attribute(x, 1)
    found = METHODS.get(name).build(bound(Activated(low)), channels=True).attribute(x, 1)
    assert float(bound(Activated(F.relu)).network.conv1(x).detach().max()) < 2
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-14)
    assert found.flags == [set()] * 3
    above = METHODS.get(name).build(bound(Activated(low)), channels=True).attribute(x + 1000, 1)
    assert bool(above.values.any()) == (name == "deconvolution")


@pytest.mark.parametrize("name", [*RULES, "guided-grad-cam"])
def test_a_network_without_relu_is_refused(name: str) -> None:
    x = images()
    for first, second, got in ((F.silu, F.gelu, "gelu, silu"), (F.tanh, nn.Hardtanh(), "hardtanh, tanh")):
        clf = Classifier(bound(Activated(first, second)).network, size=8, layer="conv2")
        with pytest.raises(BadInput, match=f"{name}: expected a network with ReLUs, got {got}; .*use saliency"):
            METHODS.get(name)(clf).attribute(x)
    with pytest.raises(BadInput, match="got no activations at all"):
        METHODS.get("guided-backprop")(bound(LinearNet())).attribute(x)


@pytest.mark.parametrize("other", [F.silu, nn.GELU(), nn.Hardswish(), nn.LeakyReLU(inplace=True), nn.ELU(inplace=True)])
def test_other_activations_hand_back_their_gradient_and_are_flagged(other: Callable[[Tensor], Tensor]) -> None:
    clf = bound(Activated(other))
    found = METHODS.get("guided-backprop").build(clf, channels=True).attribute(images(2), 1)
    assert found.flags == [{"not-only-relu"}] * 2
    net = clf.network
    place = images(2).requires_grad_(True)
    middle = net.conv2(other(net.conv1(place)))
    coming = (net.fc.weight[1] / 64).relu().reshape(1, -1, 1, 1) * (middle > 0)
    (expected,) = torch.autograd.grad(middle, place, coming)
    assert torch.allclose(found.values, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", RULES)
def test_every_way_to_write_a_relu_counts(name: str) -> None:
    """Not the gradient, and the same for all: networks that write their ReLUs in different ways."""
    x = networks.images()
    ways = [
        networks.Net,
        networks.InPlace,
        networks.Reused,
        networks.Functional,
        networks.FunctionalInPlace,
        networks.Statement,
    ]
    found = [
        METHODS.get(name).build(Classifier(networks.seeded(way), size=8), channels=True).attribute(x, 1).values
        for way in ways
    ]
    plain = (
        METHODS.get("saliency")
        .build(Classifier(networks.seeded(networks.Net), size=8), channels=True)
        .attribute(x, 1)
        .values
    )
    assert all(torch.allclose(one, found[0], rtol=0, atol=1e-14) for one in found)
    assert not torch.allclose(found[0], plain)


def test_guided_grad_cam_is_zero_where_grad_cam_is_and_shares_its_pass() -> None:
    clf = bound(GAPNet())
    x = images(4)
    context = Context()
    names = ["grad-cam", "guided-grad-cam", "hires-cam"]
    cam, guided, _ = attribute_all([METHODS.get(name)(clf, "conv1") for name in names], x, 1, context)
    assert (context.counters.forwards, context.counters.backwards) == (8, 8)
    dark = cam.values == 0
    assert 0 < int(dark.sum()) < dark.numel()
    assert not guided.values[dark].any()
    assert guided.layer == "conv1"


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "rectify",
    [
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp(x, 0),
        lambda x: x.clamp_min(0.0),
        lambda x: x.clone().clamp_(0, None),
        lambda x: x.clone().clamp_min_(0),
    ],
)
def test_a_clamp_from_zero_is_a_relu(name: str, rectify: Callable[[Tensor], Tensor]) -> None:
    found, expected = (
        METHODS.get(name).build(bound(Activated(one, one))).attribute(images(), 1) for one in (rectify, torch.relu)
    )
    assert torch.equal(found.values, expected.values)
    assert found.flags == [set()] * 3
