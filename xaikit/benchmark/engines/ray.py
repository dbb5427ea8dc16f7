"""The ray engine: actors on one machine or a cluster, each with a GPU or a share of the cores, compute and write rows.

    driver: chunks -> at most two in flight per actor -> rows, already written
    actor:  one worker, its model loaded once
    an actor that dies -> a new one in its place; its chunks are computed again, three times at most

A cluster is started by `ray start --head --port 6379` on one machine and `ray start --address HEAD:6379` on the others;
then `xaikit benchmark SUITE.toml --engine ray --address HEAD:6379` on any of them. Where ray asks for a token, the
environment needs RAY_AUTH_MODE=token and the token of the head, as ray's own guide says.

The actors write rows to the results folder, which all machines of a cluster must share, as they do the data. Ray stops
the actors when the driver ends. The rows equal those of the local engine: the worker is the same, and its number of
threads is recorded.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xaikit.benchmark.advance import Advance
from xaikit.benchmark.plan import Chunk
from xaikit.benchmark.rows import Row
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Worker
from xaikit.foundation.errors import BadInput, MissingExtra
from xaikit.foundation.registry import load_plugin

_RETRIES = 3
_IN_FLIGHT = 2
_PATIENCE = 30.0  # seconds without a result after which the cluster is asked whether the actors still have a place


class Actor:
    """The class that runs in an actor's process: a worker built from plain values.

    Args:
        suite: the suite as JSON.
        output: folder of the results.
        device: device of the models.
        threads: number of threads while computing.
        plugins: Python files to load before the suite is read.
    """

    def __init__(self, suite: str, output: str, device: str, threads: int, plugins: Sequence[str]) -> None:
        for file in plugins:
            load_plugin(file)
        self._worker = Worker(Suite.model_validate_json(suite), Store.open(output), device, threads)

    def work(self, chunk: Chunk) -> list[Row]:
        """Read, compute and write a chunk."""
        contents = self._worker.model(chunk.model).read(chunk.pictures)
        return [row for rows in self._worker.work(chunk, contents) for row in rows]


class Actors:
    """The actors of a run.

    Args:
        worker: worker of the driver; every actor builds one like it.
        count: number of actors; None starts one per GPU of the cluster, or one per `threads` cores without GPUs.
        address: address of a cluster, "auto" for the one running on this machine; None starts one on this machine.
        plugins: Python files that every actor loads first.
        notice: called with one line for each actor that dies.

    Raises:
        MissingExtra: ray is not installed.
        BadInput: there is no cluster at the address.
    """

    def __init__(
        self,
        worker: Worker,
        count: int | None,
        address: str | None,
        plugins: Sequence[str | Path] = (),
        notice: Callable[[str], None] = lambda line: None,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("ray", "ray") from error
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            try:
                with _own_signals():
                    ray.init(
                        address=address or "local",
                        include_dashboard=False,
                        log_to_driver=False,
                        configure_logging=False,
                    )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadInput(
                    f"ray: expected a cluster at {address}, got none ({error}); start it, or set RAY_AUTH_MODE=token"
                ) from error
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if worker.device != "cpu" else 0
        cores = int(resources.get("CPU", 1))
        cpus = min(worker.threads, cores / max(1, count or 1))
        share: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": cpus}
        self._needs = ("GPU", 1) if gpus else ("CPU", cpus)
        self._class: Any = self._ray.remote(**share)(Actor)
        folder, files = str(worker.store.path.resolve()), [str(Path(file).resolve()) for file in plugins]
        self._arguments = (worker.suite.model_dump_json(), folder, worker.device, worker.threads, files)
        self._notice = notice
        count = count or gpus or max(1, cores // worker.threads)
        self.actors: list[Any] = [self._class.remote(*self._arguments) for _ in range(count)]

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self.actors:
            self._kill(actor)
        if self._own:
            self._ray.shutdown()

    def compute(self, chunks: Sequence[Chunk], advance: Advance | None = None) -> Iterator[list[Row]]:
        """Yield the rows of each chunk as it is done, in any order.

        Args:
            chunks: chunks of one model.
            advance: told of rows and chunks.

        Raises:
            BadInput: actors died on a chunk more often than it is retried, or no machine is left for them.
        """
        waiting, deaths = list(reversed(chunks)), Counter[str]()
        running: dict[Any, tuple[int, Any, Chunk]] = {}

        def submit(place: int) -> None:
            if waiting:
                chunk, actor = waiting.pop(), self.actors[place]
                running[actor.work.remote(chunk)] = place, actor, chunk

        for place in [*range(len(self.actors))] * _IN_FLIGHT:
            submit(place)
        while running:
            ready = self._next(list(running))
            place, actor, chunk = running.pop(ready)
            try:
                rows: list[Row] = self._ray.get(ready)
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as error:
                deaths[chunk.id] += 1
                self._replace(place, actor, error, deaths[chunk.id])
                waiting.append(chunk)
            else:
                if advance is not None:
                    advance.written(rows)
                    advance.finished(chunk)
                yield rows
            submit(place)

    def _next(self, running: list[Any]) -> Any:
        """Return the next result that is ready."""
        while True:
            ready, _ = self._ray.wait(running, num_returns=1, timeout=_PATIENCE)
            if ready:
                return ready[0]
            resource, least = self._needs
            if self._ray.cluster_resources().get(resource, 0) < least:
                raise BadInput(f"ray: expected a machine with a {resource} for each actor, got none left; run again")

    def _replace(self, place: int, actor: Any, error: Exception, deaths: int) -> None:
        """Start an actor in place of one that has died."""
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        if deaths > _RETRIES:
            raise BadInput(f"ray: an actor died {deaths} times with the same chunk ({reason}); run again") from error
        if self.actors[place] is actor:
            self._notice(f"ray: an actor died ({reason}); a new one computes its chunks again")
            self._kill(actor)
            self.actors[place] = self._class.remote(*self._arguments)

    def _kill(self, actor: Any) -> None:
        with suppress(ValueError, RuntimeError):
            self._ray.kill(actor)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the process's handler of SIGTERM, which ray replaces by one that exits without a word."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def compute(
    worker: Worker,
    chunks: Sequence[Chunk],
    count: int | None = None,
    address: str | None = None,
    plugins: Sequence[str | Path] = (),
    notice: Callable[[str], None] = lambda line: None,
    advance: Advance | None = None,
) -> Iterator[list[Row]]:
    """Yield the rows of each chunk of one model in any order, after they have been written."""
    if not chunks:
        return
    with Actors(worker, count, address, plugins, notice) as actors:
        yield from actors.compute(chunks, advance)
