"""The local engine: this process computes chunks while the pictures of the next chunks are decoded.

    few pictures, or no spare core      a thread decodes one chunk ahead
    many pictures                       each of several processes decodes one chunk ahead

A process takes seconds to start, which pays only after it has decoded hundreds of pictures. Processes are spawned, not
forked, which works on every system. They end when this process ends, and their work is done here if they die, however
either ends: see reading_ahead.py.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from xaikit.benchmark.advance import Advance
from xaikit.benchmark.engines.reading_ahead import by_processes, by_thread
from xaikit.benchmark.plan import Chunk
from xaikit.benchmark.rows import Row
from xaikit.benchmark.worker import Worker

_MANY = 1000  # number of pictures above which starting processes pays
_MOST = 8  # largest number of processes


def compute(
    worker: Worker,
    chunks: Sequence[Chunk],
    processes: int | None = None,
    notice: Callable[[str], None] = lambda line: None,
    advance: Advance | None = None,
) -> Iterator[list[Row]]:
    """Yield the rows of the chunks in order, always after they have been written.

    Args:
        worker: worker of this process.
        chunks: chunks of one model.
        processes: number of decoding processes; 0 decodes in a thread, None chooses by the number of pictures.
        notice: called with one line when a decoding process dies.
        advance: told of forwards and chunks.
    """
    if not chunks:
        return
    model = worker.model(chunks[0].model)
    portions = [chunk.pictures for chunk in chunks]
    if model.read.given is not None:
        processes = 0
    if processes is None:
        busy = worker.threads if model.classifier.device.type == "cpu" else 1
        processes = readers(sum(map(len, portions)), busy)
    read = model.read
    with closing(by_processes(read, portions, processes, notice) if processes else by_thread(read, portions)) as ahead:
        for chunk, contents in zip(chunks, ahead, strict=True):
            for rows in worker.work(chunk, contents, None if advance is None else advance.counters()):
                yield rows
                if advance is not None:
                    advance.written(rows)
            if advance is not None:
                advance.finished(chunk)


def readers(pictures: int, busy: int) -> int:
    """Return the number of processes to decode `pictures` images while `busy` cores compute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if pictures < _MANY else max(0, min(_MOST, cores - busy))
