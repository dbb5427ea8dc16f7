"""RISE on SqueezeNet: time against the bare forwards it needs, and peak memory, whatever the number of masks."""

from __future__ import annotations

from collections.abc import Iterator

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject

__all__ = ["contests"]

IMAGES, SAMPLES = 4, 200


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    one = subject("squeezenet1_0", "features.12", count=IMAGES)

    def ours(samples: int = SAMPLES) -> object:
        return xaikit.attribute(one.classifier, one.pixels, method="rise", samples=samples)

    peaks = {samples: one.of_a_bare_portion(lambda samples=samples: ours(samples)) for samples in (20, 100)}
    yield Contest(
        "rise squeezenet1_0",
        f"{IMAGES} images at 224x224, float32, {SAMPLES} masks",
        {"xaikit": ours, "bare forwards": lambda: one.bare_forwards(IMAGES * (SAMPLES + 1))},
        [Claim("xaikit", "bare forwards", at_most=1.15)],
        rounds=5,
        facts={f"peak of a bare chunk's, {samples} masks (wanted <= 1.5)": peak for samples, peak in peaks.items()},
    )
