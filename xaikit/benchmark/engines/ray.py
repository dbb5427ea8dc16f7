"""The ray engine: actors on one machine or a cluster, each with a GPU or a share of the cores, all writing rows.

    driver: chunks -> at most two in flight an actor -> rows that are written by then
    actor:  one worker, its model loaded once; started again when it dies, its chunk tried again

Rows go to the folder from the actors, so that on a cluster it has to be one that all machines share. Ray ends the
actors when the driver ends. The rows are those of the local engine: the worker is the same, its threads are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xaikit.benchmark.plan import Chunk
from xaikit.benchmark.rows import Row
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Worker
from xaikit.foundation.errors import BadInput, MissingExtra
from xaikit.foundation.registry import load_plugin

_RETRIES = 3
_IN_FLIGHT = 2


class Actor:
    """What runs in an actor's process: the worker, opened from plain values.

    Args:
        suite: as JSON.
        output: folder of the results.
        device: of the models.
        threads: of the process.
        plugins: Python files that register what the suite names.
    """

    def __init__(self, suite: str, output: str, device: str, threads: int, plugins: Sequence[str]) -> None:
        for file in plugins:
            load_plugin(file)
        self._worker = Worker(Suite.model_validate_json(suite), Store.open(output), device, threads)

    def work(self, chunk: Chunk) -> list[Row]:
        """Read, compute and write a chunk."""
        return self._worker.work(chunk, self._worker.model(chunk.model).read(chunk.pictures))


class Actors:
    """The actors of a run.

    Args:
        worker: of the driver; the actors' are like it.
        count: how many; None is one a GPU of the cluster, or one for each `threads` cores.
        address: of a cluster, "auto" for the one that runs here; None starts one on this machine.
        plugins: Python files that every actor loads first.

    Raises:
        MissingExtra: ray is not installed.
        BadInput: no cluster at the address.
    """

    def __init__(
        self, worker: Worker, count: int | None, address: str | None, plugins: Sequence[str | Path] = ()
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("ray", "ray") from error
        self._ray: Any = ray
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(
                    address=address or "local", include_dashboard=False, log_to_driver=False, configure_logging=False
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise BadInput(f"ray: expected a cluster at {address}, got none ({error}); start it") from error
        found = self._ray.cluster_resources()
        gpus = int(found.get("GPU", 0)) if worker.device != "cpu" else 0
        cores = int(found.get("CPU", 1))
        share: dict[str, Any] = (
            {"num_gpus": 1} if gpus else {"num_cpus": min(worker.threads, cores / max(1, count or 1))}
        )
        kind: Any = self._ray.remote(max_restarts=-1, max_task_retries=_RETRIES, **share)(Actor)
        folder, files = str(worker.store.path.resolve()), [str(Path(file).resolve()) for file in plugins]
        about = (worker.suite.model_dump_json(), folder, worker.device, worker.threads, files)
        self.actors: list[Any] = [kind.remote(*about) for _ in range(count or gpus or max(1, cores // worker.threads))]

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self.actors:
            with suppress(ValueError, RuntimeError):
                self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def compute(self, chunks: Sequence[Chunk]) -> Iterator[list[Row]]:
        """Yield the rows of chunks as they are done, in any order.

        Raises:
            BadInput: actors died with a chunk more often than it is tried again.
        """
        waiting, running = list(reversed(chunks)), {}
        for actor in self.actors * _IN_FLIGHT:
            if waiting:
                running[actor.work.remote(waiting.pop())] = actor
        while running:
            (ready,), _ = self._ray.wait(list(running), num_returns=1)
            actor = running.pop(ready)
            try:
                rows: list[Row] = self._ray.get(ready)
            except self._ray.exceptions.RayActorError as error:
                raise BadInput(f"ray: an actor died {_RETRIES + 1} times with the same chunk; run again") from error
            yield rows
            if waiting:
                running[actor.work.remote(waiting.pop())] = actor


def compute(
    worker: Worker,
    chunks: Sequence[Chunk],
    count: int | None = None,
    address: str | None = None,
    plugins: Sequence[str | Path] = (),
) -> Iterator[list[Row]]:
    """Yield the rows of chunks of one model, which are written by then, in any order."""
    if not chunks:
        return
    with Actors(worker, count, address, plugins) as actors:
        yield from actors.compute(chunks)
