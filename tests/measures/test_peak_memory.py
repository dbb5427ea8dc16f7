"""Peak memory: a tensor of known size, and methods that hold more than others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from tests.networks import pictures, small
from xaikit.measures.base import Subject
from xaikit.measures.cost.peak_memory import PeakMemory, peak_bytes
from xaikit.methods.base import Method, Values
from xaikit.run.batch import Batch
from xaikit.run.context import Context
from xaikit.run.cost import Cost


@dataclass(frozen=True)
class Hoarder(Method):
    """Holds so many MiB, twice one after the other, and lets them go."""

    mebibytes: int = 0

    name: ClassVar[str] = "hoarder"
    family: ClassVar[Any] = "control"
    source: ClassVar[str] = "test"

    def compute(self, batch: Batch) -> Values:
        for _ in range(2):
            torch.empty(self.mebibytes * len(batch), 2**18)
        return Values(batch.inputs.sum(1))

    def cost(self, size: tuple[int, int]) -> Cost:
        return Cost(0)


def peaks(mebibytes: int, context: Context | None = None) -> torch.Tensor:
    classifier, pixels = small(), pictures(3)
    target = classifier(pixels).argmax(1)
    maps = pixels.mean(1)
    method = Hoarder(classifier, mebibytes)
    return PeakMemory().compute(Subject(classifier, pixels, maps, target, method=method, context=context or Context()))


def test_what_is_held_at_one_moment_counts_once() -> None:
    most = peak_bytes(lambda: [torch.empty(2**20, dtype=torch.uint8) for _ in range(3)], torch.device("cpu"))
    in_turn = peak_bytes(lambda: [len(torch.empty(2**20, dtype=torch.uint8)) for _ in range(3)], torch.device("cpu"))
    assert 3 * 2**20 <= most < 3.1 * 2**20
    assert 2**20 <= in_turn < 1.1 * 2**20


def test_one_image_alone_in_mebibytes() -> None:
    little, much = peaks(8), peaks(40)
    assert little.shape == (3,)
    assert little.dtype == torch.float64
    torch.testing.assert_close(much - little, torch.full((3,), 32.0, dtype=torch.float64), rtol=0, atol=0.01)
