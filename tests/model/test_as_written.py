"""The network runs as it was written: no other arithmetic, no other layout, whatever is unusual about its forward."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import xaikit
from xaikit.model.classifier import Classifier

ROOT = Path(__file__).resolve().parents[2]


class View(nn.Module):
    """LeNet as tutorials write it: `view` needs contiguous activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(45, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.fc(F.relu(self.conv2(x)).view(x.size(0), -1))


class Volume(nn.Module):
    """A three-dimensional convolution over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3d, self.conv, self.fc = nn.Conv3d(1, 2, 3, padding=1), nn.Conv2d(6, 5, 3), nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv3d(x[:, None])).flatten(1, 2)
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


class Strided(nn.Module):
    """Reads memory by strides: in another layout it gives other numbers and no error."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 72, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(x.as_strided((len(x), 4 * 72), (4 * 144, 2)))


class Gated(nn.Module):
    """Reads a convolution's output through its BatchNorm and by a function that torch does not dispatch."""

    def __init__(self, gate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate = gate
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 6)
        nn.init.uniform_(self.norm.weight, -2, 2)
        self.norm.running_mean.uniform_(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.fc((F.relu(self.norm(x)) * self.gate(x)).mean((2, 3)))


class Pruned(nn.Module):
    """Recomputes its weight in every forward, so that the tensor's `id` is used again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 6)
        prune.l1_unstructured(self.conv, "weight", 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(1 / (1 + x.detach().abs().numpy().mean((2, 3), keepdims=True)))


def through_vmap(x: Tensor) -> Tensor:
    return torch.func.vmap(lambda one: one.mean((1, 2), keepdim=True).sigmoid())(x)


NETWORKS = {
    "view": View,
    "conv3d": Volume,
    "as_strided": Strided,
    "numpy": lambda: Gated(through_numpy),
    "vmap": lambda: Gated(through_vmap),
    "pruned": Pruned,
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(3)
    return NETWORKS[request.param]().eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_logits_are_the_networks_own_in_every_batch_size(network: nn.Module, layout: torch.memory_format) -> None:
    classifier, images = Classifier(network, size=12, channels=3), torch.rand(70, 3, 12, 12)
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(classifier(images.contiguous(memory_format=layout)), expected)
        torch.testing.assert_close(classifier(images[:1]), expected[:1])
        torch.testing.assert_close(network(images), expected, rtol=0, atol=0, msg="the user's own forward")


def test_gradients_are_plain_autograds(network: nn.Module) -> None:
    images = torch.rand(2, 3, 12, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(images)[:, 1].sum(), images)
    found = xaikit.attribute(
        Classifier(network, size=12, channels=3, layer="fc"), images.detach(), 1, "saliency"
    ).values
    torch.testing.assert_close(found, gradient.abs().amax(1))


def test_only_what_gives_the_same_logits_runs_in_channels_last() -> None:
    torch.manual_seed(3)
    formats: dict[str, list[bool]] = {}
    for name, build in {**NETWORKS, "plain": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())}.items():
        network = build().eval()
        seen = formats.setdefault(name, [])
        classifier = Classifier(network, size=12, channels=3)
        classifier.outline()
        network.register_forward_pre_hook(
            lambda module, args, seen=seen: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
        )
        classifier(torch.rand(2, 3, 12, 12))
    used = {name for name, seen in formats.items() if all(seen)}
    assert {"plain", "pruned"} <= used
    assert not used & {"view", "as_strided"}


def test_no_private_operator_and_no_allocator_switch() -> None:
    private = re.compile(r"torch\._C|ops\.mkldnn|mallopt|malloc_trim")
    for file in (ROOT / "xaikit").rglob("*.py"):
        assert not private.search(file.read_text(encoding="utf-8")), file
