"""A benchmark run: plan, compute what is missing, write rows; stop it at any moment and run it again.

suite -> for each model: settings x images -> what DIR/rows lacks -> chunks -> engine -> rows
-> manifest.json: what the report needs to know beside the rows
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from xaikit.benchmark.engines import local
from xaikit.benchmark.environment import environment
from xaikit.benchmark.plan import Chunk, Shard, chunks, in_shard, unit_id
from xaikit.benchmark.rows import Row
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Model, Worker
from xaikit.foundation.errors import BadInput
from xaikit.run.context import Progress
from xaikit.run.cost import Cost

Engine = Literal["local", "ray"]


@dataclass
class Outcome:
    """What a run did.

    Args:
        units: units of the plan, of this shard.
        before: units that were done when it began.
        computed: units done now.
        failed: [image, method, reason] of all units of the plan that failed, now or before.
    """

    units: int = 0
    before: int = 0
    computed: int = 0
    failed: list[list[str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Units of the plan with a value."""
        return self.before + self.computed


def run(
    suite: Suite,
    output: str | Path,
    *,
    engine: Engine = "local",
    device: str = "auto",
    chunk: int | None = None,
    shard: Shard | None = None,
    retry_failed: bool = False,
    workers: int | None = None,
    address: str | None = None,
    plugins: Sequence[str | Path] = (),
    progress: Progress | None = None,
    notice: Callable[[str], None] = lambda line: None,
    command: str = "",
) -> Outcome:
    """Measure what a suite asks for and its folder does not have yet.

    Args:
        suite: what is measured.
        output: folder of the results.
        engine: "local" is this process; "ray" actors on this machine or a cluster.
        device: where the models are.
        chunk: images in one chunk; None is one physical batch. It never changes a number.
        shard: (i, n): every n-th block of images, from the i-th; shards may run at the same time.
        retry_failed: compute failed units again.
        workers: actors of the ray engine; None is one a GPU, or one a core.
        address: of a ray cluster.
        plugins: Python files that were loaded before the suite was read; actors load them too.
        progress: told how many units are done.
        notice: told what is about to be done, and each image's failures for one reason, in one line.
        command: for the record.

    Raises:
        XaikitError: the suite cannot be run: a model that cannot be loaded, or data that are not there.
    """
    store = Store.open(output)
    if shard is None:
        store.sweep()
    earlier = store.manifest()
    threads = suite.threads or int(earlier.get("threads") or torch.get_num_threads())
    worker = Worker(suite, store, device, threads)
    if not worker.dataset.pictures:
        raise BadInput("data: expected at least one image, got none; check the folder")
    if blind := [] if worker.dataset.evidence else _of_masks(suite):
        notice(f"the data have no masks: left out are {', '.join(blind)}")
    states = store.states()
    done = {unit for unit, status in states.items() if status == "ok" or not retry_failed}
    outcome, plan, told = Outcome(), set[str](), set[tuple[str, str]]()
    total = _Total(progress)
    for place in range(len(suite.models)):
        model = worker.model(place)
        pictures = in_shard(model.pictures, shard, suite.batch)
        planned = {unit_id(one, picture) for one in model.settings for picture in pictures}
        missing = chunks(place, model.settings, pictures, done, chunk or suite.batch)
        plan |= planned
        outcome.before += sum(states.get(unit) == "ok" for unit in planned)
        if replaced := _describe(store, suite, worker, place, command):
            notice(f"no longer in the report, for its rows were measured otherwise: {', '.join(replaced)}")
        notice(_announcement(model.classifier.name, len(planned), missing))
        if costly := _left_out(suite, model):
            notice(f"{model.classifier.name}: beyond their budget: {', '.join(costly)}")
        total.expect(len(planned), len(planned) - sum(map(len, missing)))
        for rows in _compute(engine, worker, missing, workers, address, plugins):
            good = sum(row["status"] == "ok" for row in rows)
            outcome.computed += good
            for row in rows:
                if row["status"] == "error" and (row["image_id"], row["error"]) not in told:
                    told.add((row["image_id"], row["error"]))
                    notice(f"{row['image_id']}: {row['method']}: {row['error']}")
            total.add(len(rows))
    if retry_failed and shard is None:
        store.sweep()
    outcome.units = len(plan)
    outcome.failed = [reason for unit, *reason in store.failures() if unit in plan]
    return outcome


def _compute(
    engine: Engine,
    worker: Worker,
    missing: Sequence[Chunk],
    workers: int | None,
    address: str | None,
    plugins: Sequence[str | Path],
) -> Iterator[list[Row]]:
    if engine == "local" or not missing:
        return local.compute(worker, missing)
    from xaikit.benchmark.engines.ray import compute

    return compute(worker, missing, workers, address, plugins)


class _Total:
    """Progress over all models."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.done = self.units = 0

    def expect(self, units: int, done: int) -> None:
        self.units += units
        self.add(done)

    def add(self, units: int) -> None:
        self.done += units
        if self.progress is not None:
            self.progress(self.done, self.units, "units")


def _of_masks(suite: Suite) -> list[str]:
    """Return the measures of a suite that need to know where the evidence is."""
    return [one.title for one in suite.measures if "masks" in one.build().needs]


def _left_out(suite: Suite, model: Model) -> list[str]:
    """Return the methods of a suite that cost more than their budget on a model."""
    planned = {one.method for one in model.settings}
    return [one.title for one in suite.all_methods if one.title not in planned]


def _announcement(model: str, units: int, missing: Sequence[Chunk]) -> str:
    left = sum(map(len, missing))
    cost = Cost(sum(one.cost.forwards for one in missing), sum(one.cost.backwards for one in missing))
    passes = f"about {cost.forwards:,.0f} forwards and {cost.backwards:,.0f} backwards"
    return f"{model}: {left:,} of {units:,} units to do, {passes}" if left else f"{model}: all {units:,} units are done"


def _describe(store: Store, suite: Suite, worker: Worker, place: int, command: str) -> list[str]:
    """Add a model's settings to the manifest; they replace older ones of the same method, and of another protocol.

    Returns:
        The methods that are gone without being measured anew.
    """
    model, earlier = worker.model(place), store.manifest()
    new = {one.id: one.about for one in model.settings}
    protocols = {about["protocol"] for about in new.values()}
    named = {_name(about) for about in new.values()}
    older = {key: about for key, about in earlier.get("settings", {}).items() if key not in new}
    kept = {key: about for key, about in older.items() if about["protocol"] in protocols and _name(about) not in named}
    names = ", ".join(one.name for one in suite.models)
    store.describe(
        {
            "title": suite.title or f"How well do {len(suite.methods)} methods explain {names}?",
            "command": command or earlier.get("command", ""),
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "seed": suite.seeds[0],
            "threads": worker.threads,
            "environment": environment(model.classifier) | {"threads": str(worker.threads)},
            "suite": suite.model_dump(mode="json"),
            "measures": {
                one.title: {"name": one.name, "direction": measure.direction, "source": measure.source}
                for one, measure in ((one, one.build()) for one in suite.measures)
            },
            "settings": kept | new,
        }
    )
    gone = [about for key, about in older.items() if key not in kept]
    return sorted({about["method"] for about in gone if _name(about) not in named})


def _name(about: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(about[key] for key in ("dataset", "model", "method", "seed", "target_rule"))
