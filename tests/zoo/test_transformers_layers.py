"""The target layer of image classifiers of transformers, with small configurations and random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xaikit
from xaikit.model.classifier import Classifier

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'xaikit[transformers]'")
pytestmark = pytest.mark.slow

SIZE = 64
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": SIZE,
    "patch_size": 8,
}
SWIN: dict[str, Any] = {
    "image_size": SIZE,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "window_size": 4,
}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
TABLE: dict[str, tuple[str, dict[str, Any], str, tuple[int, int, int], int]] = {
    "ViT": ("", VIT, "vit.layers.2.layernorm_before", (32, 8, 8), 1),
    "DeiT": ("WithTeacher", VIT, "deit.layers.2.layernorm_before", (32, 8, 8), 2),
    "Dinov2WithRegisters": ("", VIT, "dinov2_with_registers.layernorm", (32, 8, 8), 5),
    "Swin": ("", SWIN, "swin.layernorm", (32, 8, 8), 0),
    "Swinv2": ("", SWIN, "swinv2.layernorm", (32, 8, 8), 0),
    "ConvNext": ("", STAGES, "convnext.encoder.stages.3", (20, 2, 2), 0),
    "ResNet": ("", STAGES | {"embedding_size": 8}, "resnet.encoder.stages.3", (20, 2, 2), 0),
    "MobileNetV2": ("", {"depth_multiplier": 0.25}, "mobilenet_v2.conv_1x1", (1280, 2, 2), 0),
}
"""Suffix of the class, configuration, default layer, its (C, h, w), and the number of tokens before the patches."""


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    suffix, options, *_ = TABLE[name]
    config = getattr(transformers, f"{name}Config")(**options, num_labels=5)
    made: nn.Module = getattr(transformers, f"{name}ForImageClassification{suffix}")(config).eval()
    return made


@pytest.mark.parametrize("name", TABLE)
def test_the_default_layer_gives_the_grad_cam_of_one_by_hand(name: str) -> None:
    _, _, layer, shape, before = TABLE[name]
    made = network(name)
    classifier = Classifier(made, size=SIZE, mean=0.5, std=0.5, channels=3)
    assert (classifier.layer, classifier.layers()[layer]) == (layer, shape)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    kept: list[Tensor] = []
    handle = made.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    logits = made(2 * pixels - 1).logits
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])

    def maps(tensor: Tensor) -> Tensor:
        return tensor if tensor.ndim == 4 else tensor[:, before:].transpose(1, 2).unflatten(2, shape[1:])

    expected = (maps(gradient).mean((2, 3), keepdim=True) * maps(kept[0])).sum(1).relu().detach()
    found = xaikit.attribute(classifier, pixels, 1, "grad-cam").values
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.amax()))
