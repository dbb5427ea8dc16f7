"""SmoothGrad: time against captum's noise tunnel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from captum.attr import NoiseTunnel, Saliency

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]

SAMPLES = 50


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield _smooth_grad()


def _smooth_grad() -> Contest:
    one = subject("resnet50", "layer4")
    peer = NoiseTunnel(Saliency(one.peer()))
    target = one.classifier(one.pixels).argmax(1)

    def ours() -> object:
        return xaikit.attribute(
            one.classifier, one.pixels, target, method="smooth-grad", samples=SAMPLES, chunk_size=len(one.pixels)
        )

    def by_captum() -> torch.Tensor:
        return peer.attribute(
            one.inputs, target=target, nt_samples=SAMPLES, nt_samples_batch_size=1, stdevs=0.5, abs=False
        )

    return Contest(
        "smooth-grad resnet50",
        f"batch 8 at 224x224, float32, {SAMPLES} samples, 8 noisy copies in one pass",
        {"xaikit": ours, "captum NoiseTunnel": by_captum},
        [Claim("xaikit", "captum NoiseTunnel", at_least=1.3)],
        rounds=1,
        warm=False,
    )
