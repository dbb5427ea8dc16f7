"""The decomposition of Eigen-CAM alone: a Gram matrix against a full singular value decomposition."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pytorch_grad_cam import EigenCAM

from evaluation.speed.contest import OURS, Contest
from evaluation.speed.subjects import subject
from xaikit.methods.activation.eigen_cam import first_direction

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    resnet = subject("resnet50", 1)
    network = resnet.copy()
    peer = EigenCAM(model=network, target_layers=[resnet.module(network)])
    activations = torch.rand(8, 2048, 7, 7)
    yield Contest(
        "eigen-cam beyond the forward",
        "batch 8 of 2048 x 7 x 7 on the CPU",
        {
            OURS: lambda: first_direction(activations, "centred"),
            "pytorch-grad-cam": lambda: peer.get_cam_image(None, None, None, activations.numpy(), None, True),
        },
    )
