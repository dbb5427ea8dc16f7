"""SmoothGrad against captum's noise tunnel."""

from __future__ import annotations

from collections.abc import Iterator

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests"]

SAMPLES = 50


def contests() -> Iterator[Contest]:
    """Yield the contest; SmoothGrad needs a forward and a backward for each image and sample."""
    resnet = subject("resnet50")
    yield resnet.contest(
        "smooth-grad",
        f"{SAMPLES} samples",
        lambda: resnet.attribute("smooth-grad", resnet.target, samples=SAMPLES),
        lambda: resnet.gradients(SAMPLES * len(resnet.pixels)),
        {"captum NoiseTunnel": _captum},
    )


def _captum(subject: Subject) -> Work:
    from captum.attr import NoiseTunnel, Saliency

    method = NoiseTunnel(Saliency(subject.copy()))
    return lambda: method.attribute(
        subject.inputs, target=subject.target, nt_samples=SAMPLES, nt_samples_batch_size=1, stdevs=0.5, abs=False
    )
