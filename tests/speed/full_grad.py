"""FullGrad on resnet50: one resize a resolution against one a channel."""

from __future__ import annotations

from collections.abc import Iterator

from pytorch_grad_cam import FullGrad

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield _full_grad()


def _full_grad() -> Contest:
    one = subject("resnet50", "layer4", count=2)
    hers = one.peer()
    peer = FullGrad(model=hers, target_layers=[])
    return Contest(
        "full-grad resnet50",
        "batch 2 at 224x224, float32",
        {
            "xaikit": lambda: xaikit.attribute(one.classifier, one.pixels, method="full-grad"),
            "pytorch-grad-cam": lambda: peer(input_tensor=one.inputs, targets=None),
        },
        [Claim("xaikit", "pytorch-grad-cam", at_least=5)],
        rounds=3,
    )
