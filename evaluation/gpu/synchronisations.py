"""How often grad-cam makes the CPU wait for the GPU, counted by torch's profiler.

Each wait empties the GPU's queue, so the number of waits and of copies to the CPU must not grow with the batch. Without
a GPU the reads of single numbers stand in for them, so that the script can be tried.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from evaluation.speed.contest import Figure, Work
from evaluation.speed.subjects import Subject

__all__ = ["growth"]

WITH_GPU = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Memcpy DtoH")
WITHOUT_GPU = ("aten::_local_scalar_dense",)


def growth(subjects: list[Subject]) -> Figure:
    """Return the figure: what grad-cam's largest batch adds to the waits of its smallest.

    Args:
        subjects: the same network with batches that grow.
    """

    def measure() -> tuple[float, dict[str, Any]]:
        counts = {len(subject.pixels): _waits(partial(subject.attribute, "grad-cam"), subject) for subject in subjects}
        smallest, largest = counts[min(counts)], counts[max(counts)]
        facts = {
            f"batch {batch}": {**count, "an image": round(sum(count.values()) / batch, 2)}
            for batch, count in counts.items()
        }
        return float(max(largest[name] - smallest[name] for name in largest)), facts

    batches = ", ".join(str(len(subject.pixels)) for subject in subjects)
    return Figure(
        f"synchronisations {subjects[0].name}",
        f"grad-cam, batches {batches}, float32",
        "waits for the GPU, or copies to the CPU, that the largest batch adds",
        measure,
        at_most=0.0,
    )


def _waits(work: Work, subject: Subject) -> Counter[str]:
    """Return how often each event happens while `work` runs; it runs once before."""
    cuda = subject.pixels.is_cuda
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    work()
    with profile(activities=activities) as watched:
        work()
        if cuda:
            torch.cuda.synchronize()
    names = WITH_GPU if cuda else WITHOUT_GPU
    counts: Counter[str] = Counter(dict.fromkeys(names, 0))
    for event in watched.key_averages():
        for name in names:
            if event.key.startswith(name):
                counts[name] += event.count
    return counts
