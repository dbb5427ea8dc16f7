"""RISE against the bare forwards that it needs, and its peak memory by the number of masks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from evaluation.speed.contest import Contest
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests", "rise"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    squeezenet = subject("squeezenet1_0", 4)
    contest = rise(squeezenet, 200)
    for samples in (20, 100):
        work = partial(squeezenet.attribute, "rise", samples=samples)
        contest.facts[f"peak MB, {samples} masks"] = squeezenet.peak_megabytes(work)
    bare = partial(squeezenet.forwards, squeezenet.portion)
    contest.facts["peak MB, one bare portion"] = squeezenet.peak_megabytes(bare)
    yield contest


def rise(subject: Subject, samples: int) -> Contest:
    """Return the contest; RISE needs a forward for each image and mask, and one for each image."""
    total = (samples + 1) * len(subject.pixels)
    return subject.contest(
        "rise",
        f"{samples} masks",
        lambda: subject.attribute("rise", samples=samples),
        lambda: subject.forwards(total),
    )
