"""The automatic target layer of the architectures of timm, with random weights, and five methods on each.

The layers were read by a person: `norm` or `blocks` before mean pooling, the input of the last attention before a class
token, and the last maps of a convolutional network. Two networks read several depths or scales and have none.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import xaikit
from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer

timm = pytest.importorskip("timm", reason="needs timm: pip install 'xaikit[timm]'")
pytestmark = pytest.mark.slow

NONE: dict[str, Any] = {}
SQUARE: dict[str, Any] = {"img_size": 64}
VIT: dict[str, Any] = {"img_size": 64, "depth": 3}
SWIN: dict[str, Any] = {"img_size": 64, "window_size": 2, "embed_dim": 24, "num_heads": (1, 2, 4, 8)}
NARROW: dict[str, Any] = {"embed_dim": 96, "depth": 3, "num_heads": 3}
TABLE: dict[str, tuple[int, dict[str, Any], str | None, tuple[int, int, int] | None]] = {
    "test_vit": (64, SQUARE, "blocks.5.norm1", (64, 4, 4)),
    "vit_tiny_patch16_224": (64, VIT, "blocks.2.norm1", (192, 4, 4)),
    "vit_tiny_patch16_224+avg": (64, {"img_size": 64, "depth": 3, "global_pool": "avg"}, "blocks", (192, 4, 4)),
    "vit_tiny_patch16_224+map": (64, {"img_size": 64, "depth": 3, "global_pool": "map"}, "norm", (192, 4, 4)),
    "vit_medium_patch16_reg4_gap_256": (64, VIT, "blocks", (512, 4, 4)),
    "vit_small_patch14_reg4_dinov2": (56, {"img_size": 56, "depth": 3}, "blocks.2.norm1", (384, 4, 4)),
    "deit_tiny_patch16_224": (64, VIT, "blocks.2.norm1", (192, 4, 4)),
    "deit_tiny_distilled_patch16_224": (64, VIT, "blocks.2.norm1", (192, 4, 4)),
    "deit3_small_patch16_224": (64, VIT, "blocks.2.norm1", (384, 4, 4)),
    "vit_relpos_small_patch16_224": (64, VIT, "norm", (384, 4, 4)),
    "beit_base_patch16_224": (64, SQUARE | NARROW, "norm", (96, 4, 4)),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, "depth": 3}, "norm", (192, 4, 4)),
    "vit_small_patch16_dinov3": (64, VIT, "norm", (384, 4, 4)),
    "cait_xxs24_224": (64, VIT, "blocks", (192, 4, 4)),
    "convit_tiny": (64, {"img_size": 64, "depth": 3, "local_up_to_layer": 2}, "blocks.2.norm1", (192, 4, 4)),
    "crossvit_tiny_240": (240, NONE, None, None),
    "coat_lite_tiny": (64, SQUARE, "serial_blocks4.1.norm1", (320, 2, 2)),
    "xcit_nano_12_p16_224": (64, VIT, "cls_attn_blocks.1.norm1", (128, 4, 4)),
    "pit_ti_distilled_224": (224, NONE, "transformers.2.blocks.3.norm1", (256, 7, 7)),
    "tnt_s_patch16_224": (64, VIT, "blocks.2.norm_out", (384, 4, 4)),
    "levit_128s": (224, NONE, "stages", (384, 4, 4)),
    "volo_d1_224": (64, SQUARE, "post_network.0", (384, 4, 4)),
    "mixer_s16_224": (64, SQUARE, "norm", (512, 4, 4)),
    "twins_svt_small": (64, NONE, "norm", (512, 2, 2)),
    "pvt_v2_b0": (64, NONE, "stages", (256, 2, 2)),
    "mvitv2_tiny": (64, SQUARE, "norm", (768, 2, 2)),
    "mvitv2_small_cls": (64, SQUARE, "stages.3.blocks.1.norm1", (768, 2, 2)),
    "hiera_tiny_224": (224, NONE, "blocks.11", (768, 7, 7)),
    "naflexvit_base_patch16_gap": (64, NARROW, "norm", (96, 4, 4)),
    "samvit_base_patch16": (64, SQUARE | NARROW | {"global_attn_indexes": (1,)}, "neck", (256, 4, 4)),
    "vit_tiny_r_s16_p8_224": (64, SQUARE, "blocks.11.norm1", (192, 2, 2)),
    "aimv2_large_patch14_224": (56, {"img_size": 56, "depth": 2, "embed_dim": 96, "num_heads": 3}, "norm", (96, 4, 4)),
    "swin_tiny_patch4_window7_224": (64, SWIN, "norm", (192, 2, 2)),
    "swinv2_tiny_window8_256": (64, SWIN, "norm", (192, 2, 2)),
    "swinv2_cr_tiny_224": (64, SWIN, "stages", (192, 2, 2)),
    "mambaout_femto": (64, NONE, "stages", (288, 2, 2)),
    "sequencer2d_s": (64, SQUARE, "norm", (384, 4, 4)),
    "focalnet_tiny_srf": (64, NONE, "norm", (768, 2, 2)),
    "gcvit_xxtiny": (224, NONE, "stages", (512, 7, 7)),
    "davit_tiny": (64, NONE, "stages", (768, 2, 2)),
    "nest_tiny": (64, SQUARE, "norm", (384, 4, 4)),
    "convnext_atto": (64, NONE, "stages", (320, 2, 2)),
    "convmixer_768_32": (64, NONE, "blocks", (768, 9, 9)),
    "maxvit_rmlp_pico_rw_256": (64, SQUARE, "norm", (256, 2, 2)),
    "coatnet_0_rw_224": (64, SQUARE, "norm", (768, 2, 2)),
    "efficientformer_l1": (224, NONE, "norm", (448, 7, 7)),
    "efficientvit_b0": (64, NONE, "head.in_conv", (1024, 2, 2)),
    "efficientvit_m0": (224, NONE, "stages", (192, 4, 4)),
    "efficientvim_m1": (224, NONE, None, None),
    "edgenext_xx_small": (64, NONE, "stages", (168, 2, 2)),
    "fasternet_t0": (64, NONE, "stages", (320, 2, 2)),
    "fastvit_t8": (64, NONE, "final_conv", (768, 2, 2)),
    "inception_next_atto": (64, NONE, "stages", (320, 2, 2)),
    "poolformer_s12": (64, NONE, "stages", (512, 2, 2)),
    "caformer_s18": (64, NONE, "stages", (512, 2, 2)),
    "mobilevit_xxs": (64, NONE, "final_conv", (320, 2, 2)),
    "nextvit_small": (64, NONE, "norm", (1024, 2, 2)),
    "repvit_m0_9": (64, NONE, "stages", (384, 2, 2)),
    "shvit_s1": (128, NONE, "stages", (320, 2, 2)),
    "starnet_s050": (64, NONE, "norm", (128, 2, 2)),
    "visformer_tiny": (224, NONE, "norm", (384, 7, 7)),
    "vitamin_small_224": (64, SQUARE, "blocks", (384, 4, 4)),
    "botnet26t_256": (256, NONE, "stages", (2048, 8, 8)),
    "tresnet_m": (64, NONE, "body.layer4", (2048, 2, 2)),
    "resnet18": (64, NONE, "layer4", (512, 2, 2)),
    "regnetx_002": (64, NONE, "s4", (368, 2, 2)),
    "ghostnet_050": (64, NONE, "blocks", (480, 2, 2)),
    "hrnet_w18_small": (64, NONE, "final_layer", (2048, 2, 2)),
    "dla46x_c": (64, NONE, "level5", (256, 2, 2)),
    "rdnet_tiny": (64, NONE, "dense_stages", (1040, 2, 2)),
    "iformer_t": (64, NONE, "stages", (256, 2, 2)),
    "lcnetv2_small": (64, NONE, "stages", (768, 2, 2)),
    "mobilenetv4_hybrid_medium": (64, NONE, "blocks", (960, 2, 2)),
    "efficientnet_b0": (64, NONE, "bn2", (1280, 2, 2)),
    "nf_resnet26": (64, NONE, "final_act", (2048, 2, 2)),
    "skresnet18": (64, NONE, "layer4", (512, 2, 2)),
    "resnest14d": (64, NONE, "layer4", (2048, 2, 2)),
    "densenet121": (64, NONE, "features.norm5", (1024, 2, 2)),
    "mobilenetv3_small_050": (64, NONE, "blocks", (288, 2, 2)),
}
"""Size of the pictures, options, default layer and its (C, h, w), by the name of the network (+ pooling)."""
GLOBAL = {"levit_128s"}  # attention without a residual before the layer: no position shows where it reads
METHODS: dict[str, dict[str, Any]] = {
    "grad-cam": {},
    "layer-cam": {},
    "integrated-gradients": {"steps": 2},
    "occlusion": {},
    "rise": {"samples": 4},
}


def network(name: str) -> nn.Module:
    """A network of random weights in which nothing begins with zero."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = timm.create_model(name.split("+")[0], num_classes=7, **TABLE[name][1]).eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and len(module.weight) == 7:
                nn.init.normal_(module.weight, std=0.05)
        for parameter in made.parameters():
            if parameter.numel() and parameter.abs().max() < 2e-3:
                nn.init.normal_(parameter, std=0.1)
    return made


def changes(classifier: Classifier, layer: Layer, size: int) -> list[int]:
    """Return which quarter of the grid changes most when a corner of the image does, for each corner."""
    image, corner = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)), size // 4
    images = [image]
    for rows in (slice(0, corner), slice(size - corner, size)):
        for columns in (slice(0, corner), slice(size - corner, size)):
            changed = image.clone()
            changed[:, :, rows, columns] = 1 - changed[:, :, rows, columns]
            images.append(changed)
    with torch.no_grad(), classifier.borrowed(), classifier.probe() as probe:
        tap, maps = probe.record(layer), []
        for pixels in images:
            classifier.logits(classifier.normalize(pixels))
            maps.append(tap.activation[0])
    found = []
    for other in maps[1:]:
        change = (other - maps[0]).abs().sum(0)
        h, w = ((side + 1) // 2 for side in change.shape)
        quarters = [change[:h, :w], change[:h, -w:], change[-h:, :w], change[-h:, -w:]]
        found.append(int(torch.stack([quarter.mean() for quarter in quarters]).argmax()))
    return found


@pytest.mark.parametrize("name", TABLE)
def test_the_default_layer_and_five_methods(name: str) -> None:
    size, _, layer, shape = TABLE[name]
    classifier = Classifier(network(name), size=size, mean=0.5, std=0.25, channels=3)
    if layer is None:
        with pytest.raises(BadInput, match=r"found no default target layer in .*; give one of: "):
            _ = classifier.layer
        layer, shape = list(classifier.layers().items())[-1]
    else:
        assert (classifier.layer, classifier.layers()[classifier.layer]) == (layer, shape)
    resolved = classifier.resolve_layer(layer)
    if resolved.grid is not None and name not in GLOBAL:
        assert sum(found == corner for corner, found in enumerate(changes(classifier, resolved, size))) >= 3
    pixels = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    for method, options in METHODS.items():
        options = {"window": size // 2, "stride": size // 2} if method == "occlusion" else options
        place = {"layer": layer} if method.endswith("cam") else {}
        found = xaikit.attribute(classifier, pixels, 1, method, **options, **place)
        assert tuple(found.values.shape[1:]) == (tuple(shape[1:]) if place else (size, size))
        assert not found.flags[0] & {"invalid", "random-network", "mixes-images"}


def test_the_table_has_sixty_architectures() -> None:
    assert len({name.split("+")[0] for name in TABLE}) >= 60


def by_hand(made: nn.Module, layer: str, pixels: torch.Tensor, to_maps: Any) -> torch.Tensor:
    """Grad-CAM by autograd alone."""
    kept: list[torch.Tensor] = []
    handle = made.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    logits = made((pixels - 0.5) / 0.25)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    maps, slopes = to_maps(kept[0].detach()), to_maps(gradient)
    return (slopes.mean((2, 3), keepdim=True) * maps).sum(1).relu()


@pytest.mark.parametrize(
    ("name", "layer", "to_maps"),
    [
        ("swin_tiny_patch4_window7_224", "norm", lambda x: x.permute(0, 3, 1, 2)),
        ("swin_tiny_patch4_window7_224", "layers.1", lambda x: x.permute(0, 3, 1, 2)),
        ("swinv2_tiny_window8_256", "norm", lambda x: x.permute(0, 3, 1, 2)),
        ("mambaout_femto", "stages", lambda x: x.permute(0, 3, 1, 2)),
        ("sequencer2d_s", "norm", lambda x: x.permute(0, 3, 1, 2)),
        ("vit_tiny_patch16_224", "blocks.2.norm1", lambda x: x[:, 1:].transpose(1, 2).unflatten(2, (4, 4))),
        ("vit_small_patch14_reg4_dinov2", "blocks.1", lambda x: x[:, 5:].transpose(1, 2).unflatten(2, (4, 4))),
        ("deit_tiny_distilled_patch16_224", "blocks.1", lambda x: x[:, 2:].transpose(1, 2).unflatten(2, (4, 4))),
        ("efficientformer_l1", "norm", lambda x: x.transpose(1, 2).unflatten(2, (7, 7))),
    ],
)
def test_grad_cam_agrees_with_one_by_hand(name: str, layer: str, to_maps: Any) -> None:
    made, size = network(name), TABLE[name][0]
    pixels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = by_hand(made, layer, pixels, to_maps)
    found = xaikit.attribute(Classifier(made, size=size, mean=0.5, std=0.25), pixels, 1, "grad-cam", layer=layer)
    assert expected.amax() > 0
    assert torch.allclose(found.values, expected, rtol=1e-4, atol=1e-4 * float(expected.amax()))


@pytest.mark.parametrize("size", [(64, 96), (128, 64)])
@pytest.mark.parametrize(
    ("name", "layer", "step"),
    [("vit_tiny_patch16_224", "blocks.2.norm1", 16), ("swin_tiny_patch4_window7_224", "norm", 32)],
)
def test_pictures_that_are_not_square(name: str, layer: str, step: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    options = {**(VIT if name.startswith("vit") else SWIN), "img_size": size}
    classifier = Classifier(timm.create_model(name, num_classes=7, **options).eval(), size=size, mean=0.5)
    assert classifier.layer == layer
    assert classifier.layers()[layer][1:] == (size[0] // step, size[1] // step)
