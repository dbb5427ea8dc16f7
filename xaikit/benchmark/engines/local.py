"""The local engine: one process computes; the pictures of the next chunks are decoded meanwhile.

    few pictures, or no core to spare   a thread decodes one chunk ahead
    many                                processes do, two chunks ahead each

A process takes seconds to start, so that it has to decode hundreds of pictures before it is worth it. They are started
anew, not forked, which every system can; they end when this process does, however it ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch.utils.data import DataLoader, Dataset

from xaikit.benchmark.dataset import Content, Picture, Reader
from xaikit.benchmark.plan import Chunk
from xaikit.benchmark.rows import Row
from xaikit.benchmark.worker import Worker

_MANY = 1000  # pictures that are worth the start of a process
_MOST = 8


def compute(worker: Worker, chunks: Sequence[Chunk], processes: int | None = None) -> Iterator[list[Row]]:
    """Yield the rows of chunks of one model, which are written by then, in order.

    Args:
        worker: of this process.
        chunks: of one model.
        processes: that decode ahead; 0 is a thread, None chooses.
    """
    if not chunks:
        return
    model = worker.model(chunks[0].model)
    portions = [chunk.pictures for chunk in chunks]
    if processes is None:
        busy = worker.threads if model.classifier.device.type == "cpu" else 1
        processes = readers(sum(map(len, portions)), busy)
    contents = _by_processes(model.read, portions, processes) if processes else _by_thread(model.read, portions)
    for chunk, content in zip(chunks, contents, strict=True):
        yield worker.work(chunk, content)


def readers(pictures: int, busy: int) -> int:
    """Return how many processes decode so many pictures, beside so many cores that compute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if pictures < _MANY else max(0, min(_MOST, cores - busy))


def _by_thread(read: Reader, portions: Sequence[Sequence[Picture]]) -> Iterator[list[Content]]:
    with ThreadPoolExecutor(max_workers=1) as ahead:
        first = ahead.submit(read, portions[0])
        for _, following in pairwise(portions):
            found, first = first.result(), ahead.submit(read, following)
            yield found
        yield first.result()


def _by_processes(read: Reader, portions: Sequence[Sequence[Picture]], count: int) -> Iterator[list[Content]]:
    yield from DataLoader(
        _Portions(read, portions),
        batch_size=None,
        num_workers=count,
        collate_fn=_unchanged,
        multiprocessing_context="spawn",
        generator=torch.Generator(),  # its seeds are not drawn from everyone's
    )


class _Portions(Dataset[list[Content]]):
    """Pictures of one chunk after the other, read when they are asked for."""

    def __init__(self, read: Reader, portions: Sequence[Sequence[Picture]]) -> None:
        self.read, self.portions = read, portions

    def __len__(self) -> int:
        return len(self.portions)

    def __getitem__(self, place: int) -> list[Content]:
        return self.read(self.portions[place])


def _unchanged(content: list[Content]) -> list[Content]:
    return content
