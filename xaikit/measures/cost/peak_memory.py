"""Peak memory: the most that tensors hold at one moment while an image is explained.

    value = max_t held(t) - held(start)        bytes that torch's allocator has given out, in MiB

Each image is explained once more, alone, while the allocator tells of every tensor: by the profiler on a
CPU, by its own statistics on a GPU. Weights and the image itself are there before; what a library outside torch takes
(NumPy, OpenCV) is not seen. The profiler logs to stderr unless KINETO_LOG_LEVEL=5 stands in the environment that
Python was started in.

Shapes: pixels (N, C, H, W); value (N,) in MiB.
Source: xaikit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from xaikit.measures.base import MEASURES, Measure, Subject

_MEMORY = "[memory]"
_MEBIBYTE = 2**20


@MEASURES.register
@dataclass(frozen=True)
class PeakMemory(Measure):
    """Most MiB that the explanation of one image holds in tensors."""

    name = "peak-memory"
    direction = "lower"
    range = (0.0, float("inf"))
    source = "xaikit"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the peak of each image, (N,)."""
        context = replace(subject.context, progress=None)
        peaks = []
        for place in range(len(subject.pixels)):
            pixels, target = subject.pixels[place : place + 1], subject.target[place : place + 1]

            def explain(pixels: Tensor = pixels, target: Tensor = target) -> object:
                return subject.explainer.attribute(pixels, target, context=context)

            peaks.append(peak_bytes(explain, subject.classifier.device) / _MEBIBYTE)
        return torch.tensor(peaks, dtype=torch.float64, device="cpu").masked_fill(~subject.finite, torch.nan)

    def explanations(self) -> int:
        """The one that is watched."""
        return 1


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that tensors on a device held above the start while `work` ran."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    held = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == _MEMORY:
            held += event.nbytes()
            most = max(most, held)
    return most
