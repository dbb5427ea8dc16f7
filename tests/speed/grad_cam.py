"""Grad-CAM with the class chosen by the tool, against the field and against the bare forward."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM as PeerGradCAM
from torchcam.methods import GradCAM as TorchcamGradCAM

import xaikit
from tests.speed.contest import Claim, Contest

__all__ = ["contests"]

LAYERS = {"resnet50": "layer4", "vgg16": "features.30"}


def contests() -> Iterator[Contest]:
    """Yield one contest a network."""
    for name, layer in LAYERS.items():
        yield _contest(name, layer)


def _contest(name: str, layer: str) -> Contest:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    first = torchvision.models.get_model(name, weights=None).eval().to(device)
    plain, ours, hers, theirs = (copy.deepcopy(first) for _ in range(4))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    classifier = xaikit.Classifier(ours, mean, std, size=224, layer=layer)
    classifier.outline()
    pixels = torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    inputs = classifier.normalize(pixels)
    fast = inputs.contiguous(memory_format=torch.channels_last)
    peer = PeerGradCAM(model=hers, target_layers=[hers.get_submodule(layer)])
    captum = LayerGradCam(plain, plain.get_submodule(layer))
    torchcam = TorchcamGradCAM(theirs, target_layer=layer)

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return ours(fast)

    def by_captum() -> torch.Tensor:
        with torch.no_grad():
            chosen = plain(inputs).argmax(1)
        return captum.attribute(inputs, target=chosen)

    def by_torchcam() -> object:
        scores = theirs(inputs)
        return torchcam(scores.argmax(1).tolist(), scores)

    return Contest(
        f"grad-cam {name}",
        f"batch 8 at 224x224, {device}, float32, layer {layer}, class chosen by the tool",
        {
            "xaikit": lambda: xaikit.attribute(classifier, pixels, chunk_size=8),
            "bare forward, channels_last": bare,
            "pytorch-grad-cam": lambda: peer(input_tensor=inputs, targets=None),
            "captum LayerGradCam": by_captum,
            "torchcam": by_torchcam,
        },
        [
            Claim("xaikit", "bare forward, channels_last", at_most=1.10),
            Claim("xaikit", "pytorch-grad-cam", at_least=4.0),
            Claim("xaikit", "captum LayerGradCam", at_least=2.2),
            Claim("xaikit", "torchcam", at_least=1.2),
        ],
    )
