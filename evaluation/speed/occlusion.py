"""Occlusion with 13 x 13 windows against captum with its defaults."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests"]

WINDOW, STRIDE, WINDOWS = 32, 16, 13 * 13


def contests() -> Iterator[Contest]:
    """Yield the contest; occlusion needs a forward for each image and window, and one for each image."""
    squeezenet = subject("squeezenet1_0", 4)

    def ours() -> object:
        return squeezenet.attribute("occlusion", squeezenet.target, window=WINDOW, stride=STRIDE)

    def bare() -> None:
        squeezenet.forwards((WINDOWS + 1) * len(squeezenet.pixels))

    facts = {"peak MB": squeezenet.peak_megabytes(ours), "peak MB, bare passes": squeezenet.peak_megabytes(bare)}
    yield squeezenet.contest("occlusion", f"{WINDOWS} windows", ours, bare, {"captum": _captum}, facts=facts)


def _captum(subject: Subject) -> Work:
    from captum.attr import Occlusion

    method = Occlusion(subject.copy())

    def explain() -> object:
        with torch.no_grad():
            return method.attribute(
                subject.inputs, (3, WINDOW, WINDOW), strides=(3, STRIDE, STRIDE), target=subject.target, baselines=0
            )

    return explain
