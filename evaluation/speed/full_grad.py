"""FullGrad: one resize for each resolution of the network against one for each channel."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest; FullGrad needs a forward and a backward."""
    resnet = subject("resnet50", 2)
    peers = {"pytorch-grad-cam": _pytorch_grad_cam}
    yield resnet.contest("full-grad", "", lambda: resnet.attribute("full-grad"), resnet.gradients, peers)


def _pytorch_grad_cam(subject: Subject) -> Work:
    from pytorch_grad_cam import FullGrad

    method = FullGrad(model=subject.copy(), target_layers=[])
    return lambda: method(input_tensor=subject.inputs, targets=None)
