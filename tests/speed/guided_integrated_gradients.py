"""Guided integrated gradients: eight images in step against one at a time.

What is won are calls: much where a pass is short, little where one image fills the cores. So the network with long
passes is there for comparison and makes no claim. The bare passes, a forward and a backward a step, are the limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject
from xaikit.model.folding import folded
from xaikit.zoo.architectures.cifar_resnet import CifarResNet

__all__ = ["contests"]

STEPS = 20


def contests() -> Iterator[Contest]:
    """Yield one contest of a network whose passes are short and one of a network whose passes are long."""
    torch.manual_seed(0)
    small = xaikit.Classifier(CifarResNet(56), mean=[0.5] * 3, std=[0.25] * 3, size=32)
    claims = [
        Claim("together", "one at a time", at_least=3),
        Claim("bare passes together", "bare passes one at a time", at_least=3),
    ]
    yield _guided("cifar-resnet56", small, torch.rand(8, 3, 32, 32), claims)
    one = subject("squeezenet1_0", "features.12")
    yield _guided("squeezenet1_0", one.classifier, one.pixels, [])


def _guided(network: str, classifier: xaikit.Classifier, pixels: torch.Tensor, claims: list[Claim]) -> Contest:
    def explained(images: slice) -> object:
        return xaikit.attribute(
            classifier, pixels[images], method="guided-integrated-gradients", steps=STEPS, chunk_size=8
        )

    def passes(portion: int) -> None:
        network = folded(classifier)
        with network.borrowed():
            for part in [one for one in pixels.split(portion) for _ in range(STEPS)]:
                inputs = classifier.normalize(part).requires_grad_(True)
                torch.autograd.grad(network.logits(inputs)[:, 0].sum(), inputs)

    return Contest(
        f"guided-integrated-gradients {network}",
        f"8 images at {pixels.shape[2]}x{pixels.shape[3]}, float32, {STEPS} steps",
        {
            "together": lambda: explained(slice(None)),
            "one at a time": lambda: [explained(slice(place, place + 1)) for place in range(8)],
            "bare passes together": lambda: passes(8),
            "bare passes one at a time": lambda: passes(1),
        },
        claims,
        rounds=7,
    )
