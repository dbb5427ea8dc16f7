"""Integrated gradients: time against captum, and peak memory by the number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from captum.attr import IntegratedGradients

import xaikit
from tests.speed.contest import Claim, Contest, peak_bytes
from tests.speed.subjects import subject

__all__ = ["contests"]

STEPS = 50
PORTION = 8


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield _integrated_gradients()


def _integrated_gradients() -> Contest:
    one = subject("resnet50", "layer4")
    peer = IntegratedGradients(one.peer())
    target = one.classifier(one.pixels).argmax(1)

    def ours(steps: int = STEPS, count: int = 8) -> object:
        return xaikit.attribute(
            one.classifier,
            one.pixels[:count],
            target[:count],
            method="integrated-gradients",
            steps=steps,
            chunk_size=PORTION,
        )

    def by_captum(steps: int = STEPS) -> torch.Tensor:
        return peer.attribute(
            one.inputs, target=target, n_steps=steps, method="riemann_middle", internal_batch_size=PORTION
        )

    return Contest(
        "integrated-gradients resnet50",
        f"batch 8 at 224x224, float32, {STEPS} midpoint steps, {PORTION} path points in one pass",
        {"xaikit": ours, "captum": by_captum},
        [Claim("xaikit", "captum", at_least=1.3)],
        rounds=1,
        warm=False,
        facts={f"peak MB xaikit, {steps} steps": _peak(partial(ours, steps, 2)) for steps in (8, 40)},
    )


def _peak(work: Callable[[], object]) -> int:
    return round(peak_bytes(work) / 1e6)
