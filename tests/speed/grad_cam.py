"""Grad-CAM with the class chosen by the tool, against the field and against the bare forward."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM as PeerGradCAM
from torchcam.methods import GradCAM as TorchcamGradCAM

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]

SIX = ["grad-cam", "grad-cam-plus-plus", "xgrad-cam", "hires-cam", "layer-cam", "eigen-cam"]


def contests() -> Iterator[Contest]:
    """Yield one contest a network, and one of six methods against one."""
    yield _against_the_field("resnet50", "layer4")
    yield _against_the_field("vgg16", "features.30")
    yield _six_for_one("resnet50", "layer4")


def _against_the_field(name: str, layer: str) -> Contest:
    one = subject(name, layer)
    for_captum, hers, theirs = one.peer(), one.peer(), one.peer()
    peer = PeerGradCAM(model=hers, target_layers=[hers.get_submodule(layer)])
    captum = LayerGradCam(for_captum, for_captum.get_submodule(layer))
    torchcam = TorchcamGradCAM(theirs, target_layer=layer)

    def by_captum() -> torch.Tensor:
        with torch.no_grad():
            chosen = for_captum(one.inputs).argmax(1)
        return captum.attribute(one.inputs, target=chosen)

    def by_torchcam() -> object:
        scores = theirs(one.inputs)
        return torchcam(scores.argmax(1).tolist(), scores)

    return Contest(
        f"grad-cam {name}",
        f"batch 8 at 224x224, float32, layer {layer}, class chosen by the tool",
        {
            "xaikit": lambda: xaikit.attribute(one.classifier, one.pixels, chunk_size=8),
            "bare forward": one.bare,
            "pytorch-grad-cam": lambda: peer(input_tensor=one.inputs, targets=None),
            "captum LayerGradCam": by_captum,
            "torchcam": by_torchcam,
        },
        [
            Claim("xaikit", "bare forward", at_most=1.10),
            Claim("xaikit", "pytorch-grad-cam", at_least=4.0),
            Claim("xaikit", "captum LayerGradCam", at_least=2.2),
            Claim("xaikit", "torchcam", at_least=1.2),
        ],
    )


def _six_for_one(name: str, layer: str) -> Contest:
    one = subject(name, layer)
    return Contest(
        f"six methods {name}",
        f"batch 8 at 224x224, float32, layer {layer}: {', '.join(SIX)}",
        {
            "six": lambda: xaikit.attribute_many(one.classifier, one.pixels, methods=SIX, chunk_size=8),
            "one": lambda: xaikit.attribute(one.classifier, one.pixels, chunk_size=8),
        },
        [Claim("six", "one", at_most=1.25)],
    )
