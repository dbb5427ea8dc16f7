"""The automatic target layer of every torchvision classification network, with random weights."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn

from xaikit.model.classifier import Classifier
from xaikit.zoo.empty_networks import blank
from xaikit.zoo.sources.torchvision import _build

EXPECTED = {
    "alexnet": "features.12",
    "convnext_base": "features.7",
    "convnext_large": "features.7",
    "convnext_small": "features.7",
    "convnext_tiny": "features.7",
    "densenet121": "features + relu",
    "densenet161": "features + relu",
    "densenet169": "features + relu",
    "densenet201": "features + relu",
    "efficientnet_b0": "features.8",
    "efficientnet_b1": "features.8",
    "efficientnet_b2": "features.8",
    "efficientnet_b3": "features.8",
    "efficientnet_b4": "features.8",
    "efficientnet_b5": "features.8",
    "efficientnet_b6": "features.8",
    "efficientnet_b7": "features.8",
    "efficientnet_v2_l": "features.8",
    "efficientnet_v2_m": "features.8",
    "efficientnet_v2_s": "features.7",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "maxvit_t": "blocks.3",
    "mnasnet0_5": "layers.16",
    "mnasnet0_75": "layers.16",
    "mnasnet1_0": "layers.16",
    "mnasnet1_3": "layers.16",
    "mobilenet_v2": "features.18",
    "mobilenet_v3_large": "features.16",
    "mobilenet_v3_small": "features.12",
    "regnet_x_16gf": "trunk_output",
    "regnet_x_1_6gf": "trunk_output",
    "regnet_x_32gf": "trunk_output",
    "regnet_x_3_2gf": "trunk_output",
    "regnet_x_400mf": "trunk_output",
    "regnet_x_800mf": "trunk_output",
    "regnet_x_8gf": "trunk_output",
    "regnet_y_128gf": "trunk_output",
    "regnet_y_16gf": "trunk_output",
    "regnet_y_1_6gf": "trunk_output",
    "regnet_y_32gf": "trunk_output",
    "regnet_y_3_2gf": "trunk_output",
    "regnet_y_400mf": "trunk_output",
    "regnet_y_800mf": "trunk_output",
    "regnet_y_8gf": "trunk_output",
    "resnet101": "layer4",
    "resnet152": "layer4",
    "resnet18": "layer4",
    "resnet34": "layer4",
    "resnet50": "layer4",
    "resnext101_32x8d": "layer4",
    "resnext101_64x4d": "layer4",
    "resnext50_32x4d": "layer4",
    "shufflenet_v2_x0_5": "conv5",
    "shufflenet_v2_x1_0": "conv5",
    "shufflenet_v2_x1_5": "conv5",
    "shufflenet_v2_x2_0": "conv5",
    "squeezenet1_0": "features.12",
    "squeezenet1_1": "features.12",
    "vgg11": "features.20",
    "vgg11_bn": "features.28",
    "vgg13": "features.24",
    "vgg13_bn": "features.34",
    "vgg16": "features.30",
    "vgg16_bn": "features.43",
    "vgg19": "features.36",
    "vgg19_bn": "features.52",
    "wide_resnet101_2": "layer4",
    "wide_resnet50_2": "layer4",
}
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


def narrow(head: nn.Sequential) -> None:
    """Give the hidden linear maps of VGG and AlexNet 8 outputs: they have a hundred million weights otherwise."""
    places = [place for place, module in enumerate(head) if isinstance(module, nn.Linear)]
    widths = [head[places[0]].in_features, *[8] * (len(places) - 1), head[places[-1]].out_features]
    for place, (inputs, outputs) in zip(places, pairwise(widths), strict=True):
        head[place] = nn.Linear(inputs, outputs, device="meta")


def random_network(name: str, size: int) -> nn.Module:
    network = blank(lambda: _build(name, 10, size))
    if name.startswith(("alexnet", "vgg")):
        narrow(network.classifier)
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
    assert sorted([*EXPECTED, *TRANSFORMERS]) == sorted(tv.list_models(module=tv))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if is_slow(name) else []) for name in EXPECTED]
)
@pytest.mark.slow
def test_the_default_layer_is_the_one_in_the_table(name: str) -> None:
    size = SIZES.get(name, 64)
    classifier = Classifier(random_network(name, size), size=size, memory_format=None)
    layer = classifier.resolve_layer(None)
    assert str(layer) == EXPECTED[name]
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
