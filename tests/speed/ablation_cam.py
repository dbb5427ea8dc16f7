"""Ablation-CAM on resnet18 and resnet50: one forward against one a channel."""

from __future__ import annotations

from collections.abc import Iterator

from pytorch_grad_cam import AblationCAM

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield one contest a network."""
    for name in ("resnet18", "resnet50"):
        yield _ablation(name)


def _ablation(name: str) -> Contest:
    one = subject(name, "layer4", count=1)
    hers = one.peer()
    peer = AblationCAM(model=hers, target_layers=[hers.layer4])
    peer.batch_size = 32
    return Contest(
        f"ablation-cam {name}",
        "one image at 224x224, float32, layer4, class chosen by the tool",
        {
            "xaikit": lambda: xaikit.attribute(one.classifier, one.pixels, method="ablation-cam"),
            "pytorch-grad-cam": lambda: peer(input_tensor=one.inputs, targets=None),
        },
        [Claim("xaikit", "pytorch-grad-cam", at_least=300)],
        rounds=3 if name == "resnet18" else 1,
        warm=name == "resnet18",
    )
