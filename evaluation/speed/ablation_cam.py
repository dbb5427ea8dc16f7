"""Ablation-CAM: one forward, because the head is linear, against one forward a channel."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield a contest for each network."""
    for network in ("resnet18", "resnet50"):
        yield _ablation_cam(subject(network, 1))


def _ablation_cam(subject: Subject) -> Contest:
    peers = {"pytorch-grad-cam": _pytorch_grad_cam}
    return subject.contest("ablation-cam", "", lambda: subject.attribute("ablation-cam"), subject.forwards, peers)


def _pytorch_grad_cam(subject: Subject) -> Work:
    from pytorch_grad_cam import AblationCAM

    network = subject.copy()
    method = AblationCAM(model=network, target_layers=[subject.module(network)])
    method.batch_size = 32
    return lambda: method(input_tensor=subject.inputs, targets=None)
