"""RISE on SqueezeNet: time against the bare forwards it needs, and peak memory, whatever the number of masks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

import xaikit
from tests.speed.contest import Claim, Contest, peak_bytes
from tests.speed.subjects import subject

__all__ = ["contests"]

IMAGES, SAMPLES = 4, 200
PORTION = 8


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    one = subject("squeezenet1_0", "features.12", count=IMAGES)

    def ours(samples: int = SAMPLES) -> object:
        return xaikit.attribute(one.classifier, one.pixels, method="rise", samples=samples)

    def bare() -> None:
        images = one.inputs.repeat(PORTION // IMAGES, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            for _ in range(0, IMAGES * (SAMPLES + 1), PORTION):
                one.classifier.network(images)

    chunk = peak_bytes(torch.no_grad()(lambda: one.classifier.network(one.inputs.repeat(PORTION // IMAGES, 1, 1, 1))))
    peaks = {samples: round(peak_bytes(lambda samples=samples: ours(samples)) / chunk, 2) for samples in (20, 100)}
    yield Contest(
        "rise squeezenet1_0",
        f"{IMAGES} images at 224x224, float32, {SAMPLES} masks",
        {"xaikit": ours, "bare forwards": bare},
        [Claim("xaikit", "bare forwards", at_most=1.15)],
        rounds=5,
        facts={f"peak of a bare chunk's, {samples} masks (wanted <= 1.5)": peak for samples, peak in peaks.items()},
    )
