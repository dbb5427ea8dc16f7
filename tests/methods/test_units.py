"""The unit of the score has no effect: a network with logits times 1e-8 ... 1e8 has the same maps and flags."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import networks
from tests.methods.small import method
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

pytestmark = pytest.mark.usefixtures("kept_regions")

NOT_LINEAR = {
    "softmax-gradient-lrp",  # starts at a probability
    "grad-cam-plus-plus",  # its formula adds squares and cubes of gradients
    "libra-cam",  # chooses references and levels by probabilities
    "score-cam",  # weighs by probabilities
    "is-cam",  # weighs by probabilities
    "ss-cam",  # weighs by probabilities
    "smooth-grad-cam-plus-plus",  # its formula adds squares and cubes of gradients
    "refine-cam",  # Grad-CAM++ of several layers
    "recipro-cam",  # its values are probabilities
    "group-cam",  # weighs by probabilities
    "poly-cam",  # weighs by probabilities
    "shapley-cam",  # its utility has a log probability
    "meaningful-perturbation",  # weighs the probability against the size of the mask
}
NAMES = [name for name in METHODS.names() if name not in NOT_LINEAR and METHODS.get(name).family != "attention"]


def scaled(factor: float) -> Classifier:
    network = networks.seeded(networks.Net, torch.float32).eval()
    with torch.no_grad():
        network.head.weight.mul_(factor)
        network.head.bias.mul_(factor)
    return Classifier(network, mean=0.5, std=0.25, size=8, layer="conv2 + relu")


def of_class(name: str) -> Any:
    """The class, or for methods that use its probability the logit as a callable."""
    return (lambda z: z[:, 1]) if METHODS.get(name).family == "perturbation" else 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_maps_and_flags_do_not_depend_on_the_unit(name: str) -> None:
    x = networks.images(2, dtype=torch.float32)
    expected = method(name, scaled(1.0)).attribute(x, of_class(name))
    for factor, count in ((1e-8, 2), (1e8, 1)):
        found = method(name, scaled(factor)).attribute(x[:count], of_class(name))
        assert (found.heatmap() - expected.heatmap()[:count]).abs().max() < 1e-3, factor
        assert found.flags == expected.flags[:count], factor


@pytest.mark.parametrize("name", ["saliency", "hires-cam", "integrated-gradients", "grad-cam"])
def test_a_callable_in_another_unit_has_the_same_map(name: str) -> None:
    x = networks.images(2, dtype=torch.float32)
    explainer = method(name, scaled(1.0))
    expected = explainer.attribute(x, 1).heatmap()
    for factor in (1e-12, 1e-6, 1e6):
        found = explainer.attribute(x, lambda z, factor=factor: z[:, 1] * factor).heatmap()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shift", [8.0, 14.0, 30.0])
def test_softmax_gradient_lrp_of_a_sure_network_is_not_constant(shift: float) -> None:
    """p (1 - p) scales the whole start, so that its map is that of the start divided by it."""
    shifts = torch.tensor([0.0, shift, 0, 0], dtype=torch.float64)
    network = networks.seeded(lambda: networks.Net(end=lambda z: z + shifts)).eval()
    found = method("softmax-gradient-lrp", Classifier(network, size=8)).attribute(networks.images(2), 1)
    assert found.flags == [set(), set()]
    assert float(found.heatmap().flatten(1).std(1).min()) > 0.01


# ---- a sum that misses its promise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("name", ["integrated-gradients", "blur-integrated-gradients", "guided-integrated-gradients"])
def test_a_path_with_too_few_points_is_flagged(name: str, factor: float, count: int) -> None:
    """score = sum of squares of sin(9 x): two points of a path miss most of it; the flag follows from the gap."""
    network = networks.seeded(lambda: networks.Net(end=lambda z: factor * (90 * z).sin())).eval()
    explainer = METHODS.get(name).build(Classifier(network, mean=0.5, size=8), steps=2)
    found = explainer.attribute(networks.images(count), 0)
    assert found.completeness is not None
    promised = found.values.sum((1, 2)) - found.completeness
    missed = found.completeness.abs() > 0.01 * promised.abs()
    assert missed.any()
    assert found.flags == [{"incomplete"} if row else set() for row in missed.tolist()]


def test_integrated_gradients_that_give_up_say_so() -> None:
    network = networks.seeded(lambda: networks.Net(end=lambda z: (40000 * z).sin())).eval()
    found = METHODS.get("integrated-gradients")(Classifier(network, mean=0.5, size=8)).attribute(networks.images(2), 0)
    assert found.params["steps"] == 400
    assert found.flags == [{"incomplete"}, {"incomplete"}]


@pytest.mark.parametrize("name", ["integrated-gradients", "deep-lift", "deep-lift-shap"])
def test_a_sum_that_fits_is_not_flagged(name: str) -> None:
    for factor in (1e-8, 1.0, 1e8):
        found = METHODS.get(name)(scaled(factor)).attribute(networks.images(2, dtype=torch.float32), 1)
        assert not any("incomplete" in flags for flags in found.flags)
