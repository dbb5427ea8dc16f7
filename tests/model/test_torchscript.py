"""TorchScript networks: methods without layers equal the plain network's; the others are refused in one line."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from tests.methods.small import method
from tests.networks import images, seeded
from tests.networks.disguised import frozen_script, scripted, traced
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

WAYS = {"script": scripted, "trace": lambda net: traced(net, images(1)), "freeze": frozen_script}
SEEN = ["saliency", "input-x-gradient", "integrated-gradients", "smooth-grad", "occlusion", "rise"]
UNSEEN = [
    "grad-cam",
    "hires-cam",
    "score-cam",
    "eigen-cam",
    "libra-cam",
    "ablation-cam",
    "relevance-cam",
    "guided-grad-cam",
]
UNSEEN += ["lrp", "deep-lift", "full-grad", "guided-backprop", "deconvolution"]


def test_frozen_weights_of_another_dtype_are_refused_in_one_line() -> None:
    net = seeded(Small, torch.float64).eval()
    classifier = Classifier(frozen_script(net), size=8)
    with pytest.raises(BadInput, match=r"type.*weights are constants.*freeze it in float32") as caught:
        method("occlusion", classifier).attribute(images(1), 1)
    assert len(str(caught.value)) < 300


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()
        self.fc = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.norm(self.conv(x))).mean((2, 3)))


def network() -> nn.Module:
    return seeded(Small).double().eval()


@pytest.fixture(scope="module", params=list(WAYS))
def clf(request: pytest.FixtureRequest) -> Classifier:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = network().float() if request.param == "freeze" else network()  # constants have no dtype to be asked for
        return Classifier(WAYS[request.param](plain), size=8, mean=0.5, std=0.25)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", SEEN)
def test_methods_without_layers_equal_the_plain_network(clf: Classifier, name: str, count: int) -> None:
    plain = Classifier(network(), size=8, mean=0.5, std=0.25)
    x = images(count) if clf.dtype == torch.float64 else images(count).float()
    found, expected = (method(name, each).attribute(x, 1).values for each in (clf, plain))
    assert torch.allclose(found.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert bool(expected.any())


@pytest.mark.parametrize("name", UNSEEN)
def test_methods_that_look_inside_are_refused_in_one_line(clf: Classifier, name: str) -> None:
    with pytest.raises(BadInput) as told:
        METHODS.get(name)(clf).attribute(images(2).to(clf.dtype), 1)
    assert "\n" not in str(told.value)
    if METHODS.get(name).__dataclass_fields__.get("layer"):
        assert "got TorchScript" in str(told.value)
        assert "Classifier.from_function" in str(told.value)


def test_a_scripted_submodule_takes_no_hooks_and_the_rest_does() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), scripted(nn.Sequential(nn.Conv2d(5, 5, 1), nn.ReLU())))
    net = nn.Sequential(*net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)).double().eval()
    plain = nn.Sequential(net[0], nn.Sequential(nn.Conv2d(5, 5, 1), nn.ReLU()), *net[2:]).double().eval()
    plain[1].load_state_dict(net[1].state_dict())
    found, expected = (
        METHODS.get("hires-cam")(Classifier(each, size=8), layer="0").attribute(images(2), 1).values
        for each in (net, plain)
    )
    assert bool(expected.any())
    assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    with pytest.raises(BadInput, match="layer '1': expected a module that takes hooks, got TorchScript"):
        METHODS.get("hires-cam")(Classifier(net, size=8), layer="1").attribute(images(2), 1)
    assert not net[1].training


def test_a_scripted_network_comes_back_as_it_was() -> None:
    net = scripted(seeded(Small).double())
    assert net.training
    state = {name: value.clone() for name, value in net.state_dict().items()}
    METHODS.get("saliency")(Classifier(net, size=8)).attribute(images(2), 1)
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
