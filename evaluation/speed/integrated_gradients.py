"""Integrated gradients: time against captum, and peak memory by the number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests", "integrated_gradients"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    contest = integrated_gradients(subject("resnet50"))
    few = subject("resnet50", 2)
    for steps in (8, 40):
        contest.facts[f"peak MB of 2 images, {steps} steps"] = few.peak_megabytes(partial(_explain, few, steps))
    yield contest


def integrated_gradients(subject: Subject, steps: int = 50) -> Contest:
    """Return the contest; it needs a forward and a backward for each image and step, and forwards of both ends."""
    count = len(subject.pixels)

    def bare() -> None:
        subject.gradients(steps * count)
        subject.forwards(2 * count)

    return subject.contest(
        "integrated-gradients",
        f"{steps} midpoint steps, {subject.portion} points of the paths in one pass",
        lambda: _explain(subject, steps),
        bare,
        {"captum": lambda subject: _captum(subject, steps)},
    )


def _explain(subject: Subject, steps: int) -> object:
    return subject.attribute("integrated-gradients", subject.target, steps=steps)


def _captum(subject: Subject, steps: int) -> Work:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(subject.copy())
    return lambda: method.attribute(
        subject.inputs,
        target=subject.target,
        n_steps=steps,
        method="riemann_middle",
        internal_batch_size=subject.portion,
    )
