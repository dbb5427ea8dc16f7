"""Multipliers of pairs: rows in any order, products with masks, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.run.attribution import Attribution


class Written(nn.Module):
    """Two convolutions and a head, run as `forward_of` writes it."""

    def __init__(self, forward_of: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3), nn.Linear(5, 4)
        self.forward_of = forward_of

    def head(self, x: Tensor, relu: Callable[[Tensor], Tensor] = F.relu) -> Tensor:
        return self.fc(relu(self.conv2(relu(self.conv1(x)))).mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_of(self, x)


def _in_turn(net: Written, x: Tensor) -> Tensor:
    return (net.head(x) + net.head(x.flip(-1)) + net.head(x.transpose(2, 3))) / 3


def _behind(net: Written, x: Tensor) -> Tensor:
    outputs = net.head(torch.cat([x, x.flip(-1), x.transpose(2, 3)]))
    return outputs.view(3, len(x), -1).mean(0)


def _stacked(net: Written, x: Tensor) -> Tensor:
    first, second, third = net.head(torch.stack([x, x.flip(-1), x.transpose(2, 3)]).flatten(0, 1)).chunk(3)
    return (first + second + third) / 3


def _beside(net: Written, x: Tensor) -> Tensor:
    outputs = net.head(torch.stack([x, x.flip(-1), x.transpose(2, 3)], 1).flatten(0, 1))
    return outputs.view(len(x), 3, -1).mean(1)


def _both_orders(net: Written, x: Tensor) -> Tensor:
    behind = net.head(torch.cat([x, x.flip(-1)])).view(2, len(x), -1).mean(0)
    return behind + net.head(torch.stack([x, x.transpose(2, 3)], 1).flatten(0, 1)).view(len(x), 2, -1).mean(1)


PAIRS = [("deep-lift", {}), ("deep-lift", {"baseline": "blur"}), ("deep-lift-shap", {"references": 3})]


def _attribute(
    forward: Callable[[Written, Tensor], Tensor], name: str, count: int = 3, **params: object
) -> Attribution:
    classifier = bound(Written(forward), seed=2, mean=0.5, std=0.25)
    return METHODS.get(name).build(classifier, **params).attribute(images(count), 1)


@pytest.mark.parametrize(("name", "params"), PAIRS, ids=["shared", "own", "references"])
@pytest.mark.parametrize("forward", [_behind, _stacked, _beside])
def test_views_in_the_batch_are_paired_with_those_of_their_references(
    forward: Callable[[Written, Tensor], Tensor], name: str, params: dict[str, object]
) -> None:
    for count in (1, 3):
        found, expected = (_attribute(run, name, count, **params) for run in (forward, _in_turn))
        scale = float(expected.values.abs().max())
        assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-6 * scale)
        assert found.flags == expected.flags


def test_two_orders_in_one_network_are_refused() -> None:
    with pytest.raises(BadInput, match=r"expected the parts or views of an image side by side.*use integrated-grad"):
        _attribute(_both_orders, "deep-lift")


def _masked(values: Tensor) -> Tensor:
    return values * (values > 0)


def _masked_by_floats(values: Tensor) -> Tensor:
    return (values >= 0).to(values).mul(values)


def _masked_in_place(values: Tensor) -> Tensor:
    return values.clone().mul_(values.detach().gt(0))


def _leaky(values: Tensor) -> Tensor:
    return values * torch.where(values.detach() > 0, 1.0, 0.25)


def _above(values: Tensor) -> Tensor:
    return values * (values > 0.2)


@pytest.mark.parametrize(("name", "params"), PAIRS, ids=["shared", "own", "references"])
@pytest.mark.parametrize(
    ("mask", "relu"),
    [
        (_masked, F.relu),
        (_masked_by_floats, F.relu),
        (_masked_in_place, F.relu),
        (_leaky, lambda values: F.leaky_relu(values, 0.25)),
        (_above, lambda values: F.threshold(values, 0.2, 0)),
    ],
    ids=["mask", "floats", "in place", "leaky", "threshold"],
)
def test_a_product_with_a_mask_is_the_rectifier_that_it_is(
    mask: Callable[[Tensor], Tensor], relu: Callable[[Tensor], Tensor], name: str, params: dict[str, object]
) -> None:
    found, expected = (
        _attribute(lambda net, x, run=run: net.head(x, run), name, **params)  # type: ignore[misc]
        for run in (mask, relu)
    )
    assert torch.allclose(found.values, expected.values, rtol=0, atol=1e-9 * float(expected.values.abs().max()))
    assert "incomplete" not in set().union(*found.flags)


def _fixed_mask(values: Tensor) -> Tensor:
    return values * (torch.arange(values.shape[-1]) % 2)


def test_a_mask_that_all_images_share_is_linear() -> None:
    found = _attribute(lambda net, x: net.fc(_fixed_mask(net.conv2(net.conv1(x))).mean((2, 3))), "deep-lift")
    assert found.completeness is not None
    assert float(found.completeness.abs().max()) < 1e-9


def _zeroed(values: Tensor) -> Tensor:
    values = values.clone()
    values[values < 0] = 0
    return values


def _sorted(values: Tensor) -> Tensor:
    return values.gather(1, values.detach().argsort(1))


@pytest.mark.parametrize("selection", [_zeroed, _sorted])
def test_places_that_depend_on_the_image_are_refused(selection: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(BadInput, match=r"at places that depend on the image; use integrated-gradients"):
        _attribute(lambda net, x: net.head(x, selection), "deep-lift")


def _differentiating(net: Written, x: Tensor) -> Tensor:
    with torch.enable_grad():
        inputs = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net.head(inputs).sum(), inputs)
    return net.head(x + gradient.detach())


@pytest.mark.parametrize("name", ["deep-lift", "deep-lift-shap"])
def test_a_forward_that_differentiates_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadInput, match="use") as caught:
        _attribute(_differentiating, name)
    assert "\n" not in str(caught.value)
