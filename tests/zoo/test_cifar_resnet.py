"""CIFAR ResNets: the paper's sizes, and the shortcut by a second derivation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xaikit.foundation.errors import BadInput
from xaikit.zoo.architectures.cifar_resnet import CifarResNet, _Block


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)  # table 6 of the paper, in millions
def test_depth_and_parameters_are_those_of_the_paper(depth: int, parameters: float) -> None:
    network = CifarResNet(depth)
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in network.modules()) == depth
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(parameters, abs=0.04)


def test_names_are_those_of_the_known_weights() -> None:
    names = set(CifarResNet(20).state_dict())
    block = {f"{part}.weight" for part in ("conv1", "bn1", "conv2", "bn2")}
    assert {"conv1.weight", "bn1.weight", "linear.weight", "linear.bias"} <= names
    assert {f"layer{s}.{n}.{key}" for s in (1, 2, 3) for n in (0, 1, 2) for key in block} <= names


def test_the_shortcut_is_a_strided_convolution_with_an_identity_matrix() -> None:
    block = _Block(4, 8, stride=2)
    inputs = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    identity = torch.zeros(8, 4, 1, 1)
    identity[2:6, :, 0, 0] = torch.eye(4)
    assert torch.equal(block._shortcut(inputs), F.conv2d(inputs, identity, stride=2))


def test_layer3_is_8_by_8_and_the_head_follows_the_classes() -> None:
    network = CifarResNet(20, classes=7).eval()
    shapes = {}
    for size in (32, 40):
        shapes[size] = tuple(network.layer3(network.layer2(network.layer1(torch.zeros(1, 16, size, size)))).shape)
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 7)
    assert shapes == {32: (1, 64, 8, 8), 40: (1, 64, 10, 10)}


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(BadInput, match=rf"expected a depth of 6 n \+ 2, got {depth}"):
        CifarResNet(depth)
