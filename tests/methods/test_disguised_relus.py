"""A ReLU under any name gets the rule of guided backpropagation and deconvolution, or the map is flagged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.networks import Activated, bound, images
from tests.networks.disguised import COMPOSED_RELUS, RELUS, OwnRelu, relu, scripted
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS

RULES = ["guided-backprop", "deconvolution"]


def rectified(network: Activated, pixels: Tensor, target: int, name: str) -> Tensor:
    """Return the map by autograd, one stage at a time, with the rule written out at both ReLUs."""
    x = pixels.clone().requires_grad_(True)
    first = network.conv1(x)
    rectified_first = F.relu(first).detach().requires_grad_(True)
    second = network.conv2(rectified_first)
    gradient = (network.fc.weight[target] / second[0, 0].numel()).reshape(1, -1, 1, 1).expand_as(second)
    for stage, source in ((second, rectified_first), (first, x)):
        gradient = gradient.clamp(min=0) * ((stage > 0) if name == "guided-backprop" else 1)
        (gradient,) = torch.autograd.grad(stage, source, gradient)
    return gradient


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("form", list(RELUS))
def test_a_relu_under_any_name_gets_the_rule(form: str, name: str, count: int) -> None:
    clf, x = bound(Activated(RELUS[form])), images(count)
    found = METHODS.get(name).build(clf, channels=True).attribute(x, 1)
    expected = rectified(clf.network, x, 1, name)
    plain = METHODS.get("saliency").build(clf, channels=True).attribute(x, 1).values
    assert torch.allclose(found.values, expected, rtol=0, atol=1e-14)
    assert not torch.allclose(found.values, plain, rtol=0, atol=1e-3 * float(plain.abs().max()))
    assert found.flags == [set()] * count


@pytest.mark.parametrize("name", [*RULES, "guided-grad-cam"])
@pytest.mark.parametrize("form", list(COMPOSED_RELUS))
def test_a_relu_that_no_single_call_shows_is_flagged(form: str, name: str) -> None:
    found = METHODS.get(name)(bound(Activated(COMPOSED_RELUS[form]))).attribute(images(2), 1)
    assert all("not-only-relu" in flags for flags in found.flags)


def test_a_scripted_relu_is_flagged_and_alone_refused() -> None:
    function = scripted(relu)
    for _ in range(3):  # TorchScript runs other code from the third call on
        found = METHODS.get("guided-backprop")(bound(Activated(function))).attribute(images(2), 1)
        assert found.flags == [{"not-only-relu"}] * 2
    with pytest.raises(BadInput, match="expected a network with ReLUs, got "):
        METHODS.get("guided-backprop")(bound(Activated(function, function))).attribute(images(2), 1)


def test_an_own_function_alone_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"expected a network with ReLUs, got OwnRelu; .* use saliency"):
        METHODS.get("deconvolution")(bound(Activated(OwnRelu.apply, OwnRelu.apply))).attribute(images(1), 1)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: x * (0.1 + 0.9 * (x > 0).to(x.dtype)),
        lambda x: F.threshold(x, 0.02, 0.0),
        lambda x: x.clamp(min=-0.1),
        lambda x: torch.maximum(x, torch.full_like(x, 0.05)),
        lambda x: torch.maximum(x, 0.2 * x),
        lambda x: x * torch.sigmoid(x),
        lambda x: x * torch.sigmoid(x).detach(),
        lambda x: x + (F.relu(x) - x).detach(),
        lambda x: 1 / (1 + x.square()),
    ],
)
def test_another_nonlinear_function_is_flagged(other: Callable[[Tensor], Tensor]) -> None:
    found = METHODS.get("guided-backprop")(bound(Activated(other))).attribute(images(2), 1)
    assert all("not-only-relu" in flags for flags in found.flags)


def energy_gradient(x: Tensor) -> Tensor:
    """Return the gradient of half the squared ReLUs, which is the ReLU."""
    with torch.enable_grad():
        y = x if x.requires_grad else x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.relu(y).square().sum() / 2, y, create_graph=True)
    return gradient


def side_gradient(x: Tensor) -> Tensor:
    """Return the ReLU plus the gradient of an energy whose backward has negative numbers."""
    y = x.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(-3 * F.relu(y).sum(), y)
    return F.relu(x) + gradient


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("form", [energy_gradient, side_gradient])
def test_a_backward_inside_the_forward_has_the_gradient(form: Callable[[Tensor], Tensor], name: str) -> None:
    clf, x = bound(Activated(form)), images(2)
    found = METHODS.get(name).build(clf, channels=True).attribute(x, 1)
    assert torch.allclose(found.scores, clf.network(x)[:, 1].detach(), rtol=0, atol=1e-14)
    if name == "guided-backprop" and form is energy_gradient:
        assert torch.allclose(found.values, rectified(clf.network, x, 1, name), rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", ["where", "mask", "maximum", "threshold"])
def test_an_image_without_negative_activations_has_the_same_map_alone(form: str) -> None:
    """A mask of ones at hand is still the mask of a ReLU."""
    clf = bound(Activated(RELUS[form]))
    with torch.no_grad():
        clf.network.conv1.weight.abs_()
        clf.network.conv1.bias.fill_(-1.0)
    x = torch.cat([images(1), images(1, seed=2) + 9])
    signs = clf.network.conv1(x) > 0
    assert bool(signs[1].all())
    assert not bool(signs[0].all())
    both = METHODS.get("guided-backprop").build(clf, channels=True).attribute(x, 1)
    for index in range(2):
        alone = METHODS.get("guided-backprop").build(clf, channels=True).attribute(x[index : index + 1], 1)
        assert torch.allclose(alone.values[0], both.values[index], rtol=0, atol=1e-14)
    assert torch.allclose(both.values, rectified(clf.network, x, 1, "guided-backprop"), rtol=0, atol=1e-14)


def _mask_at_will(x: Tensor) -> Tensor:
    mask = torch.ones_like(x)
    mask[:, :, (x.detach() < 0).all(1).all(0)] = 0
    return x * mask


def _written_below(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0.02] = 0
    return x


GUARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "padding": lambda x: x * (x.sum(1, keepdim=True) > 0),
    "padding in place": lambda x: x.clone().mul_(x.amax(1, keepdim=True) > 0),
    "padding written": _mask_at_will,
    "nan": lambda x: torch.where(torch.isnan(x), torch.zeros_like(x), x),
    "not finite": lambda x: x.masked_fill(~x.isfinite(), 0.0),
    "threshold": lambda x: x.masked_fill(x < 0.02, 0.0),
    "threshold in place": _written_below,
    "negative threshold": lambda x: x * (x > -0.5),
    "above the image's mean minus 1": lambda x: x * (x > x.mean((1, 2, 3), keepdim=True) - 1),
    "alive": lambda x: torch.where(x.flatten(1).any(1)[:, None, None, None], x, torch.zeros_like(x)),
    "largest": lambda x: x * (x <= 1.0),
    "outlier": lambda x: x.where(x.detach().abs() < 1e5, torch.zeros_like(x)),
}
"""Functions that leave every pixel between 0.05 and 0.95 as it is."""


class Guarded(Activated):
    """Two ReLUs behind a function of the image."""

    def __init__(self, guard: Callable[[Tensor], Tensor]) -> None:
        super().__init__(F.relu, F.relu)
        self.guard = guard

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.guard(x))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("guard", list(GUARDS))
def test_a_mask_of_ones_is_no_relu(guard: str, name: str, count: int) -> None:
    """Whatever else is in the batch: an image whose mask has zeros changes no other image's map."""
    clf, x = bound(Guarded(GUARDS[guard])), images(count) * 0.9 + 0.05
    assert torch.equal(clf.network.guard(x), x)
    found = METHODS.get(name).build(clf, channels=True).attribute(x, 1)
    assert torch.allclose(found.values, rectified(clf.network, x, 1, name), rtol=0, atol=1e-14)
    assert found.flags == [{"not-only-relu"}] * count
    hole = x[:1].clone()
    hole[:, :, :3, :3] = 0.01
    beside = METHODS.get(name).build(clf, channels=True).attribute(torch.cat([x, hole]), 1)
    assert torch.allclose(beside.values[:count], found.values, rtol=0, atol=1e-14)
    assert beside.flags == [{"not-only-relu"}] * (count + 1)


@pytest.mark.parametrize(
    "neutral",
    [
        lambda x: F.relu(x) * 1,
        lambda x: F.dropout(F.relu(x), 0.5, training=False),
        lambda x: F.relu(x) + torch.zeros_like(x),
        lambda x: F.relu(x) * torch.ones_like(x),
        lambda x: torch.cat([F.relu(x)[:, :2], F.relu(x)[:, 2:]], 1),
        lambda x: F.max_pool2d(F.relu(x), 3, 1, 1),
    ],
)
def test_linear_calls_beside_a_relu_raise_no_flag(neutral: Callable[[Tensor], Tensor]) -> None:
    found = METHODS.get("guided-backprop")(bound(Activated(neutral))).attribute(images(2), 1)
    assert found.flags == [set()] * 2
