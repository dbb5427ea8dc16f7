"""The local engine: one process computes, a thread decodes the next chunk meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from xaikit.bench.plan import Chunk
from xaikit.bench.score import Row
from xaikit.bench.work import Content, Worker

__all__ = ["compute"]


def compute(worker: Worker, chunks: Sequence[Chunk]) -> Iterator[list[Row]]:
    """Yield the rows of chunks of one model, which are written by then, in order."""
    if not chunks:
        return
    with ThreadPoolExecutor(max_workers=1) as ahead:
        upcoming: Future[list[Content]] | None = ahead.submit(worker.read, chunks[0])
        for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
            assert upcoming is not None
            contents = upcoming.result()
            upcoming = None if following is None else ahead.submit(worker.read, following)
            yield worker.work(chunk, contents)
