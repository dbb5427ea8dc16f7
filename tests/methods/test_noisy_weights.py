"""NoiseGrad and FusionGrad: averages of a method over networks with noisy weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

NAMES = ["noise-grad", "fusion-grad"]


def test_fusion_grad_is_noise_grad_of_smooth_grad() -> None:
    clf, x, smooth = bound(DeepNet()), images(), {"samples": 2, "level": 0.3}
    fused = METHODS.get("fusion-grad").build(clf, networks=3, **smooth).attribute(x, 1)
    nested = METHODS.get("noise-grad").build(clf, networks=3, base="smooth-grad", base_params=smooth).attribute(x, 1)
    assert torch.equal(fused.values, nested.values)


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_it_is_the_base_method(name: str) -> None:
    clf, x = bound(DeepNet()), images()
    still = {"networks": 2, "weight_level": 0} | ({"level": 0} if name == "fusion-grad" else {})
    for base, params in (("saliency", {"channels": True}), ("grad-cam", {"layer": "features.0"})):
        plain = METHODS.get(base).build(clf, **params).attribute(x, 1)
        found = (
            METHODS.get(name)
            .build(clf, **still, base=base, base_params=params, channels=base == "saliency")
            .attribute(x, 1)
        )
        assert torch.allclose(found.values, plain.values, rtol=1e-12)
        assert found.params.get("base_layer") == plain.layer
        assert found.diagnostics["class_kept"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_given_as_a_module_is_that_of_each_copy(name: str) -> None:
    clf, x = bound(DeepNet()), images()
    options = {"base": "grad-cam", "networks": 2}
    module = METHODS.get(name).build(clf, **options, base_params={"layer": clf.network.features[0]}).attribute(x, 1)
    named = METHODS.get(name).build(clf, **options, base_params={"layer": "features.0"}).attribute(x, 1)
    assert torch.equal(module.values, named.values)


def test_an_image_whose_class_most_networks_lose_is_flagged() -> None:
    clf, x = bound(GAPNet()), images()
    calm = METHODS.get("noise-grad").build(clf, networks=4, weight_level=1e-6).attribute(x, 1)
    assert calm.diagnostics["class_kept"].tolist() == [1, 1, 1]
    assert calm.flags == [set()] * 3
    wild = METHODS.get("noise-grad").build(clf, networks=9, weight_level=50).attribute(x, 1)
    lost = [share < 0.5 for share in wild.diagnostics["class_kept"].tolist()]
    assert ["class-lost" in names for names in wild.flags] == lost
    assert any(lost)


class Unregistered(nn.Module):
    """A backbone in a list, whose weights are no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = [nn.Conv2d(3, 4, 3).double()]
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body[0](x).relu().mean((2, 3)))


class Buffered(nn.Module):
    """Its weights are a buffer, and its only parameter is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("weight", torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.weight.T


class Bare(nn.Module):
    """No parameter at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Unregistered(), r"a tensor \(4, 3, 3, 3\) for conv2d that is not registered"),
        (Buffered(), "expected other logits of Buffered with noisy parameters, got the same"),
        (Bare(), "expected a network with parameters, got Bare without"),
    ],
    ids=["unregistered", "buffered", "bare"],
)
def test_weights_that_cannot_be_changed_are_refused(network: nn.Module, message: str) -> None:
    clf = Classifier(network.double(), mean=0, size=8)
    with pytest.raises(BadInput, match=f"^noise-grad: .*{message}.*use another method$"):
        METHODS.get("noise-grad").build(clf, networks=2).attribute(images(2), 1)


def test_no_networks_are_drawn_within_networks() -> None:
    with pytest.raises(BadInput, match="base: expected a method that draws no networks, got fusion-grad"):
        METHODS.get("noise-grad").build(bound(GAPNet()), base="fusion-grad")
