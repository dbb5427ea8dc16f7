"""The automatic target layer of every torchvision classification network, with random weights."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn

from tests.networks import narrowed
from tests.zoo.networks import TORCHVISION
from xaikit.model.classifier import Classifier
from xaikit.zoo.empty_networks import blank
from xaikit.zoo.sources.torchvision import _build

TRANSFORMERS = [name for name in tv.list_models(module=tv) if name.startswith(("swin", "vit"))]
SIZES = {"alexnet": 96, "inception_v3": 128, "maxvit_t": 224}  # the others need at most 64
SLOW = 12e6  # parameters; VGG and AlexNet have more, in the layers that are narrowed


@cache
def noise() -> Tensor:
    """A million random numbers, used again for every weight: drawing them all would take a minute."""
    return torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))


def random_weight(shape: torch.Size) -> Tensor:
    copies = -(-shape.numel() // noise().numel())
    values = (noise().repeat(copies) if copies > 1 else noise())[: shape.numel()].reshape(shape)
    return values * max(1, values[:1].numel()) ** -0.5


def random_network(name: str, size: int) -> nn.Module:
    network = blank(lambda: _build(name, 10, size))
    if name.startswith(("alexnet", "vgg")):
        with torch.device("meta"):
            narrowed(network)
    state = network.state_dict()
    for key, tensor in state.items():
        if tensor.is_meta:
            state[key] = torch.ones(tensor.shape) if key.endswith("running_var") else random_weight(tensor.shape)
    network.load_state_dict(state, assign=True)
    return network


def is_slow(name: str) -> bool:
    parameters = tv.get_model_weights(name).DEFAULT.meta["num_params"]
    return parameters > SLOW and not name.startswith(("alexnet", "vgg"))


def test_every_torchvision_network_is_in_the_table_or_a_transformer() -> None:
    assert sorted([*TORCHVISION, *TRANSFORMERS]) == sorted(tv.list_models(module=tv))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if is_slow(name) else []) for name in TORCHVISION]
)
@pytest.mark.slow
def test_the_default_layer_is_the_one_in_the_table(name: str) -> None:
    size = SIZES.get(name, 64)
    classifier = Classifier(random_network(name, size), size=size, memory_format=None)
    layer = classifier.resolve_layer(None)
    assert str(layer) == TORCHVISION[name]
    _, height, width = classifier.layers()[layer.name]
    assert height * width > 1


def test_a_vision_transformer_gets_the_input_of_its_last_attention() -> None:
    network = tv.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=4
    )
    nn.init.normal_(network.heads.head.weight)  # torchvision begins with zeros, which read nothing
    classifier = Classifier(network, size=32)
    assert classifier.layer == "encoder.layers.encoder_layer_1.ln_1"
    assert classifier.layers()[classifier.layer] == (16, 4, 4)


def test_a_swin_transformer_gets_its_last_grid() -> None:
    network = tv.SwinTransformer([4, 4], embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4])
    classifier = Classifier(network, size=32)
    assert classifier.layer == "permute"
    assert classifier.layers()["permute"] == (32, 4, 4)
