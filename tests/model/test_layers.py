"""The outline: layers, the default layer, the end of the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import networks
from xaikit.model.hooks import Layer
from xaikit.model.layers import Outline, outline
from xaikit.model.selection import Selection


def seen(build, size: int = 8) -> Outline:
    network = networks.seeded(build, torch.float32).eval()
    return outline(network, networks.images(1, size=size, dtype=torch.float32), Selection())


class FunctionalPool(networks.Net):
    """All that has no weights is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6 * 16, networks.CLASSES)

    def forward(self, x):
        return self.head(nn.functional.max_pool2d(self.features(x), 2).flatten(1))


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (networks.InPlace, Layer("relu2")),
        (networks.Reused, Layer("relu", 1)),
        (networks.Functional, Layer("conv2", follow="relu")),
        (networks.FunctionalInPlace, Layer("conv2", follow="relu")),
        (networks.SqueezeExcite, Layer("conv2", follow="relu")),
        (networks.Concat, None),
        (FunctionalPool, Layer("conv2", follow="relu")),
    ],
)
def test_default_layer(build, layer):
    assert seen(build).default == layer


def vgg() -> nn.Module:
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Conv2d(4, 5, 3), nn.ReLU(True), nn.MaxPool2d(2))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4))


def staged() -> nn.Module:
    def stage(a, b):
        return nn.Sequential(nn.Sequential(nn.Conv2d(a, b, 3), nn.ReLU()), nn.Sequential(nn.Conv2d(b, b, 3), nn.ReLU()))

    return nn.Sequential(stage(3, 4), stage(4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))


def convolutional_head() -> nn.Module:
    """SqueezeNet's way: one channel a class, then the pooling."""
    head = nn.Sequential(nn.Dropout(), nn.Conv2d(5, 4, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(True)), head, nn.Flatten())


def test_default_of_a_chain_is_what_enters_the_first_link():
    assert seen(vgg).default == Layer("0.4")


def test_default_has_the_outermost_name_that_is_not_the_whole():
    assert seen(staged, 12).default == Layer("1")


def test_a_class_map_is_stepped_over():
    found = seen(convolutional_head)
    assert found.class_map == Layer("1.2")
    assert found.default is not None
    assert found.default.name in ("0", "0.1", "1.0")


def test_layers_calls_and_memory():
    found = seen(networks.Reused)
    assert list(found.layers) == ["conv1", "conv2", "relu"]
    assert found.calls["relu"] == 2
    assert found.size == (8, 8)
    assert found.classes == networks.CLASSES
    assert found.activation_bytes == 4 * (64 * 2 * (5 + 6) + 2 * networks.CLASSES)


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (lambda z: z, "logits"),
        (lambda z: z.softmax(1), "softmax"),
        (lambda z: z.softmax(1)[:, :, None].squeeze(2), "softmax"),
        (lambda z: z.exp() / z.exp().sum(), "softmax"),
        (lambda z: z.log_softmax(1), "log-softmax"),
        (lambda z: z - z.logsumexp(1, keepdim=True), "log-softmax"),
        (lambda z: z.sigmoid(), "sigmoid"),
        (lambda z: z.sigmoid() + 1, "logits"),
        (lambda z: z.sigmoid() * z, "logits"),
        (lambda z: z * torch.nan, "logits"),
        (lambda z: torch.eye(networks.CLASSES)[:1] + 0 * z, "logits"),
    ],
)
def test_end(last, end):
    assert seen(lambda: networks.Net(end=last)).ends_in == end


def test_a_gate_in_the_middle_is_no_end():
    assert seen(networks.SqueezeExcite).ends_in == "logits"


def test_the_network_is_left_without_hooks():
    network = networks.seeded(networks.Net, torch.float32).eval()
    outline(network, networks.images(1, dtype=torch.float32), Selection())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.SiLU, nn.LeakyReLU, nn.Hardswish, nn.ELU, nn.Mish, nn.Hardtanh])
@pytest.mark.parametrize("inplace", [False, True])
def test_default_of_other_activations_is_what_comes_after_them(kind, inplace):
    def net() -> nn.Module:
        tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), kind(inplace=inplace), *tail)

    assert seen(net).default == Layer("3")


@pytest.mark.parametrize(
    "last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Sequential(nn.Softmax(1), nn.Flatten())]
)
def test_a_class_map_is_stepped_over_before_a_softmax_too(last):
    def net():
        head = (nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head, last)

    about = seen(net)
    assert about.default == Layer("1")
    assert about.class_map == Layer("2")


@pytest.mark.parametrize("rectify", [torch.relu, torch.relu_, torch.nn.functional.silu, lambda x: x])
def test_a_tensor_that_a_sum_changed_is_no_longer_what_its_module_gave(rectify):
    assert seen(lambda: networks.InPlaceSum(rectify)).default is None
    assert seen(lambda: nn.Sequential(Summed(), nn.AdaptiveAvgPool2d(1), nn.Flatten())).default == Layer("0")


class Summed(nn.Module):
    """The same sum inside a block, whose output has the block's name."""

    def __init__(self, last=torch.relu_):
        super().__init__()
        self.stem, self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), last

    def forward(self, x):
        x = self.stem(x)
        x += self.conv(x)
        return self.last(x)


@pytest.mark.parametrize(
    ("act", "follow"), [(nn.ReLU(inplace=True), "relu"), (torch.relu_, "relu"), (nn.functional.silu, "")]
)
def test_a_block_keeps_the_name_that_it_has_after_its_sum(act, follow):
    class Rectified(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.block = nn.Conv2d(3, 3, 1), Summed(lambda x: x)

        def forward(self, x):
            return act(self.block(self.first(x))).mean((2, 3))

    assert seen(Rectified).default == Layer("block", follow=follow)


class Changing(nn.Module):
    """A network that changes what is pooled, or what it says, by a write in place."""

    def __init__(self, pool, change, end=lambda z: z):
        super().__init__()
        self.conv, self.pool, self.change, self.end = nn.Conv2d(3, 4, 3, padding=1), pool, change, end

    def forward(self, x):
        pooled = self.pool(self.conv(x).relu())
        self.change(pooled)
        return self.end(pooled.flatten(1))


def add(x):
    x += 1


def write(x):
    x[:, :2] = 0.5


@pytest.mark.parametrize("change", [lambda x: None, add, write, lambda x: x[:, :1].add_(1)])
def test_a_write_into_the_pooled_tensor_does_not_move_the_layer(change):
    assert seen(lambda: Changing(nn.AdaptiveAvgPool2d(4), change)).default == Layer("conv", follow="relu")


@pytest.mark.parametrize("change", [add, write, lambda z: z.mul_(5)])
@pytest.mark.parametrize("head", [torch.sigmoid, lambda z: torch.log_softmax(z, 1)])
def test_outputs_that_were_changed_are_no_probabilities(head, change):
    def ended(z):
        said = head(z[:, :5] + 3)
        change(said)
        return said

    pool = nn.AdaptiveAvgPool2d(4)
    assert seen(lambda: Changing(pool, lambda x: None, ended)).ends_in == "logits"
    assert seen(lambda: Changing(pool, lambda x: None, lambda z: head(z[:, :5]))).ends_in != "logits"
