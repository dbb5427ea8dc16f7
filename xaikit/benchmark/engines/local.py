"""The local engine: this process computes chunks while the pictures of the next chunks are decoded.

    few pictures, or no spare core      a thread decodes one chunk ahead
    many pictures                       each of several processes decodes two chunks ahead

A process takes seconds to start, which pays only after it has decoded hundreds of pictures. Processes are spawned, not
forked, which works on every system; they end when this process ends, however it ends.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import DataLoader, Dataset

from xaikit.benchmark.dataset import Content, Picture, Reader
from xaikit.benchmark.plan import Chunk
from xaikit.benchmark.rows import Row
from xaikit.benchmark.worker import Worker

_MANY = 1000  # number of pictures above which starting processes pays
_MOST = 8  # largest number of processes


def compute(worker: Worker, chunks: Sequence[Chunk], processes: int | None = None) -> Iterator[list[Row]]:
    """Yield the rows of each chunk in order, after they have been written.

    Args:
        worker: worker of this process.
        chunks: chunks of one model.
        processes: number of decoding processes; 0 decodes in a thread, None chooses by the number of pictures.
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
    """Return the number of processes to decode `pictures` images while `busy` cores compute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if pictures < _MANY else max(0, min(_MOST, cores - busy))


def _by_thread(read: Reader, portions: Sequence[Sequence[Picture]]) -> Iterator[list[Content]]:
    with ThreadPoolExecutor(max_workers=1) as executor:
        pending = executor.submit(read, portions[0])
        for portion in portions[1:]:
            contents, pending = pending.result(), executor.submit(read, portion)
            yield contents
        yield pending.result()


def _by_processes(read: Reader, portions: Sequence[Sequence[Picture]], count: int) -> Iterator[list[Content]]:
    yield from DataLoader(
        _Portions(read, portions),
        batch_size=None,
        num_workers=count,
        collate_fn=_unchanged,
        multiprocessing_context="spawn",
        generator=torch.Generator(),  # does not advance torch's global generator
    )


class _Portions(Dataset[list[Content]]):
    """The decoded pictures of each chunk, as a torch dataset."""

    def __init__(self, read: Reader, portions: Sequence[Sequence[Picture]]) -> None:
        self.read, self.portions = read, portions

    def __len__(self) -> int:
        return len(self.portions)

    def __getitem__(self, index: int) -> list[Content]:
        return self.read(self.portions[index])


def _unchanged(content: list[Content]) -> list[Content]:
    return content
