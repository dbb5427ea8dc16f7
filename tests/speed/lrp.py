"""LRP on vgg16: one transposed map a layer against a hook a module."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import VGGCanonizer

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield _epsilon_plus()


def _epsilon_plus() -> Contest:
    one = subject("vgg16", "features.30")
    hers = one.peer()
    classes = one.classifier(one.pixels).argmax(1)

    def peer() -> object:
        with Gradient(hers, EpsilonPlus(canonizers=[VGGCanonizer()])) as attributor:
            return attributor(one.inputs, lambda logits: torch.eye(1000).to(logits)[classes] * logits.detach())

    return Contest(
        "lrp vgg16",
        "EpsilonPlus, batch 8 at 224x224, float32",
        {
            "xaikit": lambda: xaikit.attribute(one.classifier, one.pixels, method="lrp", composite="epsilon-plus"),
            "zennit": peer,
        },
        [Claim("xaikit", "zennit", at_least=1.2)],
        rounds=2,
    )
