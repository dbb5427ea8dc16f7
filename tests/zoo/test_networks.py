"""The own architectures have the sizes they state, and every name builds for any classes and channels."""

from __future__ import annotations

import pytest
import torch

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.zoo.architectures.lenet import LeNet5
from xaikit.zoo.architectures.texture_cnn import TextureCNN
from xaikit.zoo.registry import architecture, architectures, register_architecture


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_texture_cnn_is_small_and_fully_convolutional() -> None:
    network = TextureCNN().eval()
    assert parameters(network) == 47_990
    assert network.features(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 16, 16)
    assert network(torch.zeros(2, 3, 128, 96)).shape == (2, 6)


def test_lenet_has_the_shapes_of_1998() -> None:
    network = LeNet5().eval()
    assert parameters(network) == 61_706
    assert network.features(torch.zeros(1, 1, 32, 32)).shape == (1, 16, 5, 5)
    with pytest.raises(BadInput, match="got 15"):
        LeNet5(size=15)


def test_texture_vit_has_a_token_for_each_8_pixels_and_one_for_the_class() -> None:
    network = architecture("texture-vit").build(6, 3, 64).eval()
    assert parameters(network) == 166_486
    assert network.conv_proj(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 8, 8)
    assert network.encoder.pos_embedding.shape == (1, 65, 64)
    with pytest.raises(BadInput, match="expected a size that is a multiple of 8, got 60"):
        architecture("texture-vit").build(6, 3, 60)


@pytest.mark.parametrize(
    "name", ["lenet5", "texture-cnn", "texture-vit", "squeezenet1_1", "mobilenet_v3_small", "googlenet"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_names_build_for_any_classes_and_channels(name: str, channels: int) -> None:
    network = architecture(name).build(4, channels, 64).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, channels, 64, 64)).shape == (1, 4)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(BadInput, match="architecture 'lenet5': expected a new name"):
        register_architecture("lenet5")(LeNet5)


def test_unknown_names_get_near_ones() -> None:
    assert {"lenet5", "texture-cnn", "resnet18"} <= set(architectures())
    with pytest.raises(UnknownName, match="resnet50"):
        architecture("resnet-50")
