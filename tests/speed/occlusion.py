"""Occlusion on SqueezeNet: 13 x 13 windows of four images against captum with its defaults and bare forwards."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from captum.attr import Occlusion

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]

WINDOW, STRIDE, WINDOWS = 32, 16, 13 * 13


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    one = subject("squeezenet1_0", "features.12", count=4)
    captum = Occlusion(one.peer())
    target = one.classifier(one.pixels).argmax(1)

    def ours() -> object:
        return xaikit.attribute(one.classifier, one.pixels, target, method="occlusion", window=WINDOW, stride=STRIDE)

    def by_captum() -> object:
        with torch.no_grad():
            return captum.attribute(
                one.inputs, (3, WINDOW, WINDOW), strides=(3, STRIDE, STRIDE), target=target, baselines=0
            )

    yield Contest(
        "occlusion squeezenet1_0",
        f"four images at 224x224, float32, {WINDOWS} windows",
        {"xaikit": ours, "captum": by_captum, "bare forwards": lambda: one.bare_forwards(4 * (WINDOWS + 1))},
        [Claim("xaikit", "captum", at_least=2.0), Claim("xaikit", "bare forwards", at_most=1.15)],
        rounds=3,
        facts={"peak of a bare chunk's (wanted <= 1.5)": one.of_a_bare_portion(ours)},
    )
