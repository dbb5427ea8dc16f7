"""The ray engine: actors on one machine or a cluster, each with a GPU or a share of the cores, compute and write rows.

    driver: chunks -> at most two in flight per actor -> rows, already written
    actor:  one worker, its model loaded once; restarted if it dies, and its chunk retried

The actors write rows to the results folder, which all machines of a cluster must share. Ray stops the actors when the
driver ends. The rows equal those of the local engine: the worker is the same, and its number of threads is recorded.
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
        return self._worker.work(chunk, self._worker.model(chunk.model).read(chunk.pictures))


class Actors:
    """The actors of a run.

    Args:
        worker: worker of the driver; every actor builds one like it.
        count: number of actors; None starts one per GPU of the cluster, or one per `threads` cores without GPUs.
        address: address of a cluster, "auto" for the one running on this machine; None starts one on this machine.
        plugins: Python files that every actor loads first.

    Raises:
        MissingExtra: ray is not installed.
        BadInput: there is no cluster at the address.
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
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if worker.device != "cpu" else 0
        cores = int(resources.get("CPU", 1))
        cpus = min(worker.threads, cores / max(1, count or 1))
        share: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": cpus}
        actor_class: Any = self._ray.remote(max_restarts=-1, max_task_retries=_RETRIES, **share)(Actor)
        folder, files = str(worker.store.path.resolve()), [str(Path(file).resolve()) for file in plugins]
        arguments = (worker.suite.model_dump_json(), folder, worker.device, worker.threads, files)
        count = count or gpus or max(1, cores // worker.threads)
        self.actors: list[Any] = [actor_class.remote(*arguments) for _ in range(count)]

    def __enter__(self) -> Actors:
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self.actors:
            with suppress(ValueError, RuntimeError):
                self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def compute(self, chunks: Sequence[Chunk]) -> Iterator[list[Row]]:
        """Yield the rows of each chunk as it is done, in any order.

        Raises:
            BadInput: actors died on a chunk more often than it is retried.
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
    """Yield the rows of each chunk of one model in any order, after they have been written."""
    if not chunks:
        return
    with Actors(worker, count, address, plugins) as actors:
        yield from actors.compute(chunks)
