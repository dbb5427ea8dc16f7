"""The context of a run: seed, portions, precision, progress and counters.

    portions     slices of at most `chunk_size` images, halved when memory runs out
    forward      one pass, in the chosen precision, counted

The portion size changes speed and memory use, and results only by rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeVar

import torch
from annotated_types import Ge
from pydantic import Strict
from torch import Tensor

from xaikit.foundation.memory import free_memory, out_of_memory
from xaikit.foundation.parameters import Parameters
from xaikit.model.rows import are_mixed

if TYPE_CHECKING:
    from xaikit.model.classifier import Classifier

Precision = Literal["float32", "bfloat16"]
T = TypeVar("T")

_LARGEST = {"cpu": 64, "cuda": 128}
_CPU_BYTES = 2**31  # activations of one portion on a CPU; larger portions are not faster
_NOTICEABLE = 5.0  # seconds above which a computation reports its estimated duration
_SHARE = 0.25  # share of the free memory for the activations of one portion


class Progress(Protocol):
    """Callback for the progress of a long computation."""

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` units are done.

        After the first portion of a long computation `unit` includes an estimate: "forwards, about 40 s".
        """


@dataclass
class Counters:
    """Number of images sent through the network; a pass of a batch of 8 counts 8."""

    forwards: int = 0
    backwards: int = 0


@dataclass
class Context(Parameters):
    """Settings and counters of a run, shared by all methods.

    Args:
        seed: seed of all random draws, combined with each image's content.
        chunk_size: largest number of images in one pass; None chooses it by the free memory.
        precision: precision of the network's arithmetic; reductions stay in float32.
        progress: progress callback, or None.
        counters: forwards and backwards done so far.
        halved: whether memory ran out and portions were halved.
        compared: whether a batch was compared with its images alone, for a network whose decisions do not show.
    """

    seed: Annotated[int, Strict()] = 0
    chunk_size: Annotated[int, Strict(), Ge(1)] | None = None
    precision: Precision = "float32"
    progress: Progress | None = None
    counters: Counters = field(default_factory=Counters)
    halved: bool = False
    compared: bool = False

    not_parameters = frozenset({"progress", "counters", "halved", "compared"})
    largest = math.inf  # any seed

    def portion(self, classifier: Classifier, size: tuple[int, int]) -> int:
        """Return the number of images of `size` = (H, W) in one pass."""
        if classifier.outline(size).rows.one_by_one:
            return 1
        if self.chunk_size is not None:
            return self.chunk_size
        device = classifier.device
        image_bytes = max(1, classifier.activation_bytes(size))
        available = _SHARE * free_memory(device)
        available = min(available, _CPU_BYTES) if device.type == "cpu" else available
        return max(1, min(_LARGEST.get(device.type, 32), int(available / image_bytes)))

    def portions(self, total: int, size: int, work: Callable[[slice], T], unit: str = "") -> Iterator[T]:
        """Yield `work(slice)` over `total` items in portions of `size`, halved when memory runs out.

        Args:
            total: number of items.
            size: number of items in one portion.
            work: callable that computes one portion.
            unit: word for the items in progress reports; "" reports no progress.
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
        """Return the result in a tuple, or None if memory ran out and a smaller portion may fit."""
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
        """Return the logits (n, K) of inputs (n, C, H, W) in the network's coordinates, and count the pass."""
        self.counters.forwards += len(inputs)
        logits = self.run(classifier, inputs)
        rows = classifier.outline(inputs.shape[-2:]).rows
        if rows.hidden and not (rows.mixes or rows.alone or self.compared) and len(inputs) > 1:
            self.compared = True
            arithmetic = torch.bfloat16 if self.precision == "bfloat16" else classifier.dtype
            with torch.no_grad():
                if are_mixed(partial(self.run, classifier), inputs.detach(), logits.detach(), arithmetic):
                    classifier.note_mixing()
        return logits

    def run(self, classifier: Classifier, inputs: Tensor) -> Tensor:
        """Return logits in the context's precision, without counting the pass."""
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            return classifier.logits(inputs)


def estimate(begin: float, done: int, total: int) -> str:
    """Return the estimated duration of `total` units, `done` since `begin`, as ", about 40 s", or "" if it is short."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - begin) * total / done
    return "" if seconds < _NOTICEABLE else f", about {duration(seconds)}"


def duration(seconds: float) -> str:
    """Return a duration to one digit, such as "40 s" or "2 min"."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 90 * length or unit == "h":
            break
    return f"{float(f'{seconds / length:.1g}'):,.0f} {unit}"
