"""The context of a run: how images go through the network, in which portions, and what it cost.

    portions     slices of at most `chunk_size` images, halved when memory runs out
    forward      one pass, in the chosen precision, counted

A portion's size changes speed and memory, never the answer beyond rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar

import torch
from annotated_types import Ge
from pydantic import Strict
from torch import Tensor

from xaikit.foundation.memory import free_memory, out_of_memory
from xaikit.foundation.parameters import Parameters

if TYPE_CHECKING:
    from xaikit.model.classifier import Classifier

Precision = Literal["float32", "bfloat16"]
T = TypeVar("T")

_LARGEST = {"cpu": 64, "cuda": 128}
_CPU_BYTES = 2**31  # activations of one portion on a CPU; larger portions are not faster
_NOTICEABLE = 5.0  # seconds from which a computation announces how long it takes
_SHARE = 0.25  # of the free memory that one portion's activations may take


class Progress(Protocol):
    """Told how far a long computation is."""

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` units are done.

        After the first portion of a long computation the unit carries an estimate: "forwards, about 40 s".
        """


@dataclass
class Counters:
    """Images sent through the network; a pass of a batch of 8 counts 8."""

    forwards: int = 0
    backwards: int = 0


@dataclass
class Context(Parameters):
    """What every method receives beside its images.

    Args:
        seed: of every random draw, together with the image's content.
        chunk_size: most images in one pass; None takes it from the free memory.
        precision: of the network's arithmetic; reductions stay in float32.
        progress: called as work proceeds, or None.
        counters: what has been spent.
        halved: True after memory ran out and portions were halved.
    """

    seed: Annotated[int, Strict()] = 0
    chunk_size: Annotated[int, Strict(), Ge(1)] | None = None
    precision: Precision = "float32"
    progress: Progress | None = None
    counters: Counters = field(default_factory=Counters)
    halved: bool = False

    not_parameters = frozenset({"progress", "counters", "halved"})

    def portion(self, classifier: Classifier, size: tuple[int, int]) -> int:
        """Return how many images of `size` = (H, W) one pass takes."""
        if self.chunk_size is not None:
            return self.chunk_size
        device = classifier.device
        need = max(1, classifier.activation_bytes(size))
        room = _SHARE * free_memory(device)
        room = min(room, _CPU_BYTES) if device.type == "cpu" else room
        return max(1, min(_LARGEST.get(device.type, 32), int(room / need)))

    def portions(self, total: int, size: int, work: Callable[[slice], T], unit: str = "") -> Iterator[T]:
        """Yield `work(slice)` over `total` items in portions of `size`, halved when memory runs out.

        Args:
            total: number of items.
            size: items in one portion.
            work: computes one portion.
            unit: word for the items; with it progress is reported.
        """
        start, begin = 0, time.perf_counter()
        while start < total:
            stop = min(start + size, total)
            result = self._attempt(work, slice(start, stop), size)
            if result is None:
                size = max(1, size // 2)
                continue
            yield result[0]
            if unit and self.progress is not None:
                note = estimate(begin, stop, total) if start == 0 else ""
                self.progress(stop, total, unit + note)
            start = stop

    def _attempt(self, work: Callable[[slice], T], rows: slice, size: int) -> tuple[T] | None:
        """Return the result in a tuple, or None when memory ran out and a smaller portion may do."""
        try:
            return (work(rows),)
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or size == 1:
                raise
            self.halved = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def forward(self, classifier: Classifier, inputs: Tensor) -> Tensor:
        """Return the logits (n, K) of inputs (n, C, H, W) in the network's coordinates, and count them."""
        self.counters.forwards += len(inputs)
        return self.run(classifier, inputs)

    def run(self, classifier: Classifier, inputs: Tensor) -> Tensor:
        """Return logits in the context's precision, not counted."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            return classifier.logits(inputs)


def estimate(begin: float, done: int, total: int) -> str:
    """Return ", about 40 s" for `total` units of which `done` took since `begin`; nothing below a few seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - begin) * total / done
    if seconds < _NOTICEABLE:
        return ""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 90 * length or unit == "h":
            break
    return f", about {float(f'{seconds / length:.1g}'):,.0f} {unit}"
