"""A layer given by name is the output of that module, whatever follows it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import xaikit
from tests import networks
from xaikit.methods.activation.reference_library import Library
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

NETWORKS = ("Functional", "FunctionalInPlace", "SqueezeExcite", "Net", "Statement", "Residual")


def raw(network: nn.Module, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a module's output and the gradient of class 1 by it, read before anything is written into it."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()

    handle = network.get_submodule(name).register_forward_hook(keep)
    logits = network(x.clone().requires_grad_(True))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    return kept[0].detach(), gradient


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1).relu()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_those_of_the_module_s_output(name: str, layer: str, count: int) -> None:
    network, x = networks.seeded(getattr(networks, name)).eval(), networks.images(count)
    activations, gradients = raw(network, layer, x)
    for classifier, given in (
        (Classifier(network, mean=0), layer),
        (Classifier(network, mean=0), network.get_submodule(layer)),
        (Classifier(network, mean=0, layer=layer), None),
    ):
        found = xaikit.attribute(classifier, x, 1, "grad-cam", layer=given)
        assert torch.allclose(found.values, grad_cam(activations, gradients), rtol=1e-10, atol=1e-14)
        assert found.layer == layer
        hires = xaikit.attribute(classifier, x, 1, "hires-cam", layer=given).values
        assert torch.allclose(hires, (gradients * activations).sum(1), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", NETWORKS[:-1])
@pytest.mark.parametrize("method", ["grad-cam", "score-cam", "ablation-cam", "eigen-cam", "relevance-cam", "libra-cam"])
def test_the_printed_name_of_the_default_layer_is_read_back(name: str, method: str, count: int) -> None:
    classifier, x = Classifier(networks.seeded(getattr(networks, name)).eval(), mean=0), networks.images(count)
    default = xaikit.attribute(classifier, x, 1, method)
    again = xaikit.attribute(classifier, x, 1, method, layer=default.layer)
    assert default.layer == again.layer == classifier.layer
    assert torch.equal(default.values, again.values)
    assert default.flags == again.flags


@pytest.mark.parametrize("count", [1, 3])
def test_the_relu_of_another_layer_can_be_asked_for(count: int) -> None:
    network, x = networks.seeded(networks.Functional).eval(), networks.images(count)
    found = xaikit.attribute(Classifier(network, mean=0), x, 1, "eigen-cam", layer="conv1 + relu")
    other = xaikit.attribute(Classifier(network, mean=0), x, 1, "eigen-cam", layer="conv1")
    assert found.layer == "conv1 + relu"
    assert not torch.allclose(found.values, other.values)
    with torch.no_grad():
        activations = F.relu(network.conv1(x)).flatten(2)
    for values, image in zip(found.values.flatten(1), activations, strict=True):
        first = torch.linalg.svd(image, full_matrices=False).Vh[0]
        cosine = F.cosine_similarity(values.abs(), first.abs(), 0)
        assert float(cosine) == pytest.approx(1, abs=1e-9)


def test_a_library_belongs_to_the_layer_with_or_without_its_relu() -> None:
    classifier = Classifier(networks.seeded(networks.Functional).eval(), mean=0, size=8)
    x = networks.images(40)
    labels = classifier.probabilities(x).argmax(1)
    data = [(x, labels)]
    libraries = {layer: Library.build(classifier, data, 1, layer=layer) for layer in (None, "conv2", "conv2 + relu")}
    assert [library.layer for library in libraries.values()] == ["conv2 + relu", "conv2", "conv2 + relu"]
    for layer, library in libraries.items():
        other = libraries["conv2" if layer != "conv2" else None]
        METHODS.get("libra-cam").build(classifier, library=library, layer=layer).attribute(x[:1], 1)
        with pytest.raises(xaikit.XaikitError, match="expected one of layer"):
            METHODS.get("libra-cam").build(classifier, library=other, layer=layer).attribute(x[:1], 1)


@pytest.mark.parametrize("name", ["refine-cam", "poly-cam"])
def test_layers_are_chosen_for_the_pictures_at_hand(name: str) -> None:
    """At 8 pixels the third convolution has one position left, so that the second is the default layer."""
    torch.manual_seed(0)
    steps = [nn.Sequential(nn.Conv2d(width, 6, 3, stride=2, padding=1), nn.ReLU()) for width in (3, 6, 6)]
    clf = Classifier(nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval(), size=32)
    one, small = METHODS.get(name).build(clf), torch.rand(2, 3, 8, 8)
    layers = [one.attribute(torch.rand(1, 3, 32, 32)).layer, one.attribute(small).layer]
    assert len(set(layers)) == 2
    fresh = METHODS.get(name).build(clf).attribute(small)
    assert torch.equal(one.attribute(small).values, fresh.values)
    assert one.attribute(small).params["shallower"] == fresh.params["shallower"]
