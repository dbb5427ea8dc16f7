"""Guided integrated gradients: eight images in step against one image at a time.

Running them in step saves calls: much where a pass is short, little where one image fills the cores. So only the
network with short passes claims to be faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from evaluation.speed.contest import OURS, Claim, Contest
from evaluation.speed.subjects import Subject, of_network, subject
from xaikit.zoo.architectures.cifar_resnet import CifarResNet

__all__ = ["contests"]

STEPS = 20
ALONE = "xaikit, one image at a time"


def contests() -> Iterator[Contest]:
    """Yield a contest of a network whose passes are short and one of a network whose passes are long."""
    torch.manual_seed(0)
    bare = Claim(OURS, "bare passes", 1.10)
    yield _guided(of_network("cifar-resnet56", CifarResNet(56), side=32), [bare, Claim(OURS, ALONE, 1 / 3)])
    yield _guided(subject("squeezenet1_0"), [bare])


def _guided(subject: Subject, claims: list[Claim]) -> Contest:
    singles = [replace(subject, pixels=image[None]) for image in subject.pixels]

    def explain(images: Subject) -> object:
        return images.attribute("guided-integrated-gradients", steps=STEPS)

    return subject.contest(
        "guided-integrated-gradients",
        f"{STEPS} steps",
        lambda: explain(subject),
        lambda: [subject.gradients() for _ in range(STEPS)],
        {ALONE: lambda _: lambda: [explain(image) for image in singles]},
        claims=claims,
    )
