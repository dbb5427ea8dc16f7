"""Eigen-CAM beyond the forward: a Gram matrix against a full singular value decomposition."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pytorch_grad_cam import EigenCAM

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield _eigen()


def _eigen() -> Contest:
    one = subject("resnet50", "layer4")
    hers = one.peer()
    peer = EigenCAM(model=hers, target_layers=[hers.layer4])
    activations = torch.rand(8, 2048, 7, 7)
    method = xaikit.get_method("eigen-cam")(one.classifier)

    class Known:
        """A batch whose activations are there already, so that only the decomposition is timed."""

        def __len__(self) -> int:
            return len(activations)

        def activations(self, layer: object) -> torch.Tensor:
            return activations

    return Contest(
        "eigen-cam resnet50",
        "the decomposition alone, batch 8 of 2048 x 7 x 7",
        {
            "xaikit": lambda: method.compute(Known()),
            "pytorch-grad-cam": lambda: peer.get_cam_image(None, None, None, activations.numpy(), None, True),
        },
        [Claim("xaikit", "pytorch-grad-cam", at_least=20)],
        rounds=5,
    )
