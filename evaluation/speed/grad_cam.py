"""Grad-CAM with the class chosen by the tool, and six activation methods at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch

import xaikit
from evaluation.speed.contest import OURS, Claim, Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests", "grad_cam", "six_methods"]

NETWORKS = ("resnet50", "vgg16", "densenet121", "mobilenet_v2", "convnext_tiny")
SIX = ["grad-cam", "grad-cam-plus-plus", "xgrad-cam", "hires-cam", "layer-cam", "eigen-cam"]


def contests() -> Iterator[Contest]:
    """Yield a contest for each network and batch, and one of six methods against one."""
    for network in NETWORKS:
        for count in (1, 8):
            yield grad_cam(subject(network, count))
    yield _six_against_one(subject("resnet50"))


def grad_cam(subject: Subject) -> Contest:
    """Return the contest of Grad-CAM; it needs one forward."""
    peers = {"captum LayerGradCam": _captum, "pytorch-grad-cam": _pytorch_grad_cam, "torchcam": _torchcam}
    return subject.contest("grad-cam", "", lambda: subject.attribute("grad-cam"), subject.forwards, peers)


def six_methods(subject: Subject) -> Contest:
    """Return the contest of six activation methods, which need one forward together."""
    peers = {"pytorch-grad-cam": _six_by_pytorch_grad_cam}
    return subject.contest("six activation methods", ", ".join(SIX), lambda: _six(subject), subject.forwards, peers)


def _six(subject: Subject) -> object:
    return xaikit.attribute_many(subject.classifier, subject.pixels, methods=SIX, context=subject.context)


def _six_against_one(subject: Subject) -> Contest:
    ours = {OURS: lambda: _six(subject), "grad-cam alone": lambda: subject.attribute("grad-cam")}
    about = f"batch {len(subject.pixels)}: {', '.join(SIX)}"
    return Contest(f"six methods {subject.name}", about, ours, [Claim(OURS, "grad-cam alone", 1.25)])


def _captum(subject: Subject) -> Work:
    from captum.attr import LayerGradCam

    network = subject.copy()
    method = LayerGradCam(network, subject.module(network))

    def explain() -> object:
        with torch.no_grad():
            target = network(subject.inputs).argmax(1)
        return method.attribute(subject.inputs, target=target)

    return explain


def _pytorch_grad_cam(subject: Subject) -> Work:
    from pytorch_grad_cam import GradCAM

    network = subject.copy()
    method = GradCAM(model=network, target_layers=[subject.module(network)])
    return lambda: method(input_tensor=subject.inputs, targets=None)


def _torchcam(subject: Subject) -> Work:
    from torchcam.methods import GradCAM

    network = subject.copy()
    method = GradCAM(network, target_layer=subject.layer)

    def explain() -> object:
        scores = network(subject.inputs)
        return method(scores.argmax(1).tolist(), scores)

    return explain


def _six_by_pytorch_grad_cam(subject: Subject) -> Work:
    import pytorch_grad_cam as peer

    kinds = (peer.GradCAM, peer.GradCAMPlusPlus, peer.XGradCAM, peer.HiResCAM, peer.LayerCAM, peer.EigenCAM)
    networks = [subject.copy() for _ in kinds]
    methods = [
        kind(model=network, target_layers=[subject.module(network)])
        for kind, network in zip(kinds, networks, strict=True)
    ]
    return lambda: [method(input_tensor=subject.inputs, targets=None) for method in methods]
