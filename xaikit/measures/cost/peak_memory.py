"""Peak memory: largest memory in tensors at any moment while an image is explained.

    value = max_t held(t) - held(start)        memory allocated by torch, in MiB

In words: Every image is explained once more, alone, and the measure is the largest memory that tensors take at any
moment, in MiB, beyond the weights and the image. Low is better. It says nothing about the quality of a map. The traps:
batches need more than one image, memory of other libraries is not counted, and CPU and GPU are measured in different
ways, so compare methods on the same device only.

Each image is explained once more, alone. On a CPU, torch's profiler reports every allocation; on a GPU, the allocator
keeps statistics. Weights and the image are allocated before and not counted; memory of other libraries (NumPy, OpenCV)
is not measured. The profiler logs to stderr unless Python was started with KINETO_LOG_LEVEL=5 in its environment.

Shapes: pixels (N, C, H, W); value (N,) in MiB.
Source: xaikit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from xaikit.measures.base import MEASURES, Measure, Subject
from xaikit.model.target import Target

_MEMORY = "[memory]"
_MEBIBYTE = 2**20


@MEASURES.register
@dataclass(frozen=True)
class PeakMemory(Measure):
    """Peak memory of tensors while one image is explained, in MiB."""

    name = "peak-memory"
    direction = "lower"
    range = (0.0, float("inf"))
    source = "xaikit"
    needs = frozenset({"model", "method"})

    def compute(self, subject: Subject) -> Tensor:
        """Return the peak of each image, (N,)."""
        context = replace(subject.context, progress=None)
        peaks = []
        for index in range(len(subject.pixels)):
            pixels, target = subject.pixels[index : index + 1], subject.explained[index : index + 1]

            def explain(pixels: Tensor = pixels, target: Target = target) -> object:
                return subject.explainer.attribute(pixels, target, context=context)

            peaks.append(peak_bytes(explain, subject.classifier.device) / _MEBIBYTE)
        return torch.tensor(peaks, dtype=torch.float64, device="cpu").masked_fill(~subject.finite, torch.nan)

    def explanations(self) -> int:
        """Return 1, for the measured run."""
        return 1


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return the peak memory of tensors on a device while `work` runs, minus that at the start, in bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == _MEMORY:
            held += event.nbytes()
            peak = max(peak, held)
    return peak
