"""Operations that hooks and rules do not see run visibly or are refused; the right value is the plain network's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet

from tests.methods.small import method
from tests.networks import Activated, images, seeded
from tests.networks.disguised import Branches, Checkpointed, OwnRelu, add_relu, relu, scripted, swish
from xaikit.foundation.errors import BadInput
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch, of reentrant ones

RULED = ["lrp", "rap", "excitation-backprop", "softmax-gradient-lrp", "contrastive-lrp", "relevance-cam"]
RULED += ["layer-excitation-backprop", "deep-lift", "deep-lift-shap", "full-grad"]


def values(network: nn.Module, name: str, layer: str | None = None, count: int = 2, **params: Any) -> Tensor:
    clf = Classifier(network.double().eval(), size=8, mean=0.5, std=0.25)
    built = method(name, clf, **params) if layer is None else method(name, clf, layer=layer, **params)
    return built.attribute(images(count), 1).values


def close(found: Tensor, expected: Tensor) -> bool:
    return bool(expected.any()) and torch.allclose(found, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


@pytest.mark.parametrize("name", RULED)
@pytest.mark.parametrize(
    "network",
    [
        lambda: Branches(scripted(swish), add_relu),
        lambda: Branches(F.relu, scripted(add_relu)),
        lambda: Activated(F.relu, scripted(relu)),
        lambda: Activated(F.relu, scripted(nn.Sequential(nn.ReLU()).eval())),
        lambda: Activated(F.relu, OwnRelu.apply),
    ],
    ids=["scripted activation", "scripted sum", "scripted at the end", "scripted module", "autograd.Function"],
)
def test_rules_refuse_what_no_call_shows(network: Any, name: str) -> None:
    with pytest.raises(BadInput, match=r"got the autograd.Function OwnRelu|inside scripted code") as told:
        values(seeded(network), name, "conv1" if "layer" in name or "cam" in name else None)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["saliency", "integrated-gradients", "grad-cam", "hires-cam", "occlusion"])
def test_gradients_of_scripted_functions_are_the_plain_ones(name: str) -> None:
    layer = "conv1" if "cam" in name else None
    for _ in range(3):
        found = values(seeded(lambda: Branches(scripted(swish), scripted(add_relu))), name, layer)
        assert close(found, values(seeded(lambda: Branches(swish, add_relu)), name, layer))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("saliency", None),
        ("integrated-gradients", None),
        ("smooth-grad", None),
        ("guided-backprop", None),
        ("deconvolution", None),
        ("deep-lift", None),
        ("full-grad", None),
        ("occlusion", None),
        ("hires-cam", None),
        ("hires-cam", "stem"),
        ("hires-cam", "body"),
        ("hires-cam", "body.1"),
        ("hires-cam", "last.0"),
        ("grad-cam", "body.2"),
        ("layer-cam", "body.1"),
        ("guided-grad-cam", "body.1"),
    ],
)
@pytest.mark.slow
def test_a_checkpoint_changes_nothing(name: str, layer: str | None, reentrant: bool, count: int) -> None:
    network, plain = (seeded(lambda kind=kind: Checkpointed(kind)) for kind in (reentrant, None))
    assert torch.equal(network.double()(images()), plain.double()(images()))
    assert close(values(network, name, layer, count), values(plain, name, layer, count))


def test_several_layers_inside_checkpoints() -> None:
    for reentrant in (False, True):
        network, plain = (seeded(lambda kind=kind: Checkpointed(kind)) for kind in (reentrant, None))
        found, expected = (Classifier(each.double().eval(), size=8, layer="body.3") for each in (network, plain))
        maps = [
            METHODS.get("layer-cam").build(clf, shallower="body.1").attribute(images(2), 1) for clf in (found, expected)
        ]
        assert close(maps[0].values, maps[1].values)


@pytest.mark.parametrize("name", ["lrp", "excitation-backprop", "relevance-cam"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_relevance_through_a_checkpoint_is_refused(name: str, reentrant: bool) -> None:
    layer = "body.1" if name == "relevance-cam" else None
    with pytest.raises(BadInput, match="heckpoint"):
        values(seeded(lambda: Checkpointed(reentrant)), name, layer)


def test_a_checkpoint_leaves_no_gradients_behind() -> None:
    network = seeded(lambda: Checkpointed(True)).double().eval()
    stray = torch.ones((), dtype=torch.float64, requires_grad=True)
    network.register_forward_hook(lambda module, args, output: output * stray)
    values(network, "saliency")
    assert stray.grad is None
    assert all(parameter.grad is None for parameter in network.parameters())


def dense(memory_efficient: bool) -> DenseNet:
    return DenseNet(4, (2, 2), 8, num_classes=3, memory_efficient=memory_efficient)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("saliency", None),
        ("guided-backprop", None),
        ("deep-lift", None),
        ("hires-cam", None),
        ("hires-cam", "features.denseblock1.denselayer2.conv1"),
        ("grad-cam", "features.denseblock2.denselayer1.norm1"),
    ],
)
def test_torchvisions_memory_efficient_densenet(name: str, layer: str | None) -> None:
    params = {} if layer is None else {"layer": layer}
    found, expected = (
        method(name, Classifier(seeded(lambda kind=kind: dense(kind)).double().eval(), size=32), **params)
        .attribute(images(2, size=32), 1)
        .values
        for kind in (True, False)
    )
    assert close(found, expected)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(x)))


class Whole(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.fc = body, nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["wrapped", "in place", "nested"])
def test_compiled_submodules_run_as_they_were_written(way: str) -> None:
    plain = seeded(lambda: Whole(Body())).double().eval()
    network = copy.deepcopy(plain)
    if way == "in place":
        network.body.compile(backend="eager")
    elif way == "wrapped":
        network.body = torch.compile(network.body, backend="eager")
    else:
        network.body = nn.Sequential(torch.compile(network.body, backend="eager"))
    before = network(images())
    calls = [module._compiled_call_impl for module in network.modules()]
    for name in ("occlusion", "saliency", "guided-backprop", "deep-lift", "grad-cam", "lrp"):
        assert close(values(network, name), values(plain, name))
    assert calls == [module._compiled_call_impl for module in network.modules()]
    assert torch.equal(network(images()), before)
