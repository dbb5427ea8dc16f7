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
from tests.zoo.networks import METHODS, SWIN, TIMM, VIT
from xaikit.foundation.errors import BadInput
from xaikit.model.classifier import Classifier
from xaikit.model.hooks import Layer

timm = pytest.importorskip("timm", reason="needs timm: pip install 'xaikit[timm]'")
pytestmark = pytest.mark.slow

GLOBAL = {"levit_128s"}  # attention without a residual before the layer: no position shows where it reads


def network(name: str) -> nn.Module:
    """A network of random weights in which nothing begins with zero."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = timm.create_model(name.split("+")[0], num_classes=7, **TIMM[name][1]).eval()
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


@pytest.mark.parametrize("name", TIMM)
def test_the_default_layer_and_five_methods(name: str) -> None:
    size, _, layer, shape = TIMM[name]
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
    assert len({name.split("+")[0] for name in TIMM}) >= 60


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
    made, size = network(name), TIMM[name][0]
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
