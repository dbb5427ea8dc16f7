"""A benchmark run: plan, compute what is missing, write rows; it can be stopped at any moment and continued.

suite -> for each model: settings x images -> what DIR/rows lacks -> chunks -> engine -> rows
-> manifest.json: everything else that the report needs
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from xaikit.benchmark.advance import Advance
from xaikit.benchmark.engines import local
from xaikit.benchmark.environment import report_environment
from xaikit.benchmark.manifest import Manifest, MeasureAbout, MethodAbout, changed
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.own import Own
from xaikit.benchmark.plan import Chunk, Plan, Shard, in_shard, plan
from xaikit.benchmark.rows import Row
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Model, Worker
from xaikit.foundation.docstrings import first_line, formula, meaning
from xaikit.foundation.errors import BadInput
from xaikit.foundation.lock import held
from xaikit.methods.base import METHODS, Method
from xaikit.run.context import Progress

Engine = Literal["local", "ray"]


@dataclass
class Outcome:
    """The result of a run.

    Args:
        units: number of units in the plan of this shard.
        before: number of units that were done before the run.
        computed: number of units computed by the run.
        failed: [image, method, reason] of every unit in the plan that failed, in this run or an earlier one.
    """

    units: int = 0
    before: int = 0
    computed: int = 0
    failed: list[list[str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Number of units that have a value."""
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
    own: Own | None = None,
) -> Outcome:
    """Compute the rows of a suite that its results folder does not have yet.

    Args:
        suite: the suite to run.
        output: folder of the results.
        engine: "local" computes in this process, "ray" in actors on this machine or a cluster.
        device: device of the models.
        chunk: images per chunk, rounded up to whole batches; None takes one batch. It never changes a number.
        shard: (i, n) selects every n-th block of images, starting at block i; shards may run at the same time.
        retry_failed: whether to compute failed units again.
        workers: number of actors of the ray engine; None starts one per GPU, or one per `threads` cores without GPUs.
        address: address of a ray cluster.
        plugins: Python files that were loaded before the suite was read; actors load them too.
        progress: called with the number of forwards done and their total, about.
        notice: called with one line for each announcement, each new reason why an image failed, and each process that
            died and whose work is done again.
        command: command line to record in the manifest.
        own: classifiers and images of the caller; they stay in this process, so the engine is "local".

    Raises:
        XaikitError: the suite cannot be run, because a model cannot be loaded, the data do not exist, or another run
            writes to the folder.
    """
    _check_apart(suite, Path(output))
    if own is not None and engine != "local":
        raise BadInput(f"engine: expected local for classifiers or images of your own, got {engine}; leave it out")
    store = Store.open(output, notice)
    with held(store.path, suite.id, shard):
        rows = store.index() if shard is not None else store.sweep()
        earlier = store.manifest()
        threads = suite.threads or earlier.threads or torch.get_num_threads()
        worker = Worker(suite, store, device, threads, own)
        if not worker.dataset.pictures:
            raise BadInput("data: expected at least one image, got none; check the folder")
        if skipped := [] if worker.dataset.evidence else _mask_measures(suite):
            notice(f"the data have no masks; skipped measures: {', '.join(skipped)}")
        outcome, reported = Outcome(), set[tuple[str, str]]()
        advance, settings, shown = Advance(progress), set[str](), set[str]()
        for index in range(len(suite.models)):
            model = worker.model(index)
            pictures = in_shard(model.pictures, shard, suite.batch)
            planned = plan(
                index, model.settings, pictures, rows, worker.protocol, suite.batch, chunk, retry=retry_failed
            )
            settings |= {setting.id for setting in model.settings}
            shown |= {picture.id for picture in pictures}
            units = len(model.settings) * len(pictures)
            outcome.units += units
            outcome.before += planned.done
            for reason, methods in _describe(store, suite, worker, index, command).items():
                notice(f"no longer in the report, because {reason}: {', '.join(methods)}")
            notice(_announcement(suite, index, units, planned))
            if costly := _beyond_budget(suite, model):
                notice(f"{suite.models[index].title}: beyond their budget: {', '.join(costly)}")
            advance.expect(planned.chunks, units)
            for computed in _compute(engine, worker, planned.chunks, workers, address, plugins, notice, advance):
                outcome.computed += sum(row["status"] == "ok" for row in computed)
                for row in computed:
                    if row["status"] == "error" and (row["image_id"], row["error"]) not in reported:
                        reported.add((row["image_id"], row["error"]))
                        notice(f"{row['image_id']}: {row['method']}: {row['error']}")
        if outcome.computed and shard is None:
            store.sweep()
        outcome.failed = store.failures(settings, shown, worker.protocol.values)
        return outcome


def _check_apart(suite: Suite, output: Path) -> None:
    """Check that what a run writes, pictures among it, is not read as data by the next one."""
    libraries = [suite.library, *(model.library for model in suite.models)]
    for data in (suite.data, *(library.data for library in libraries if library is not None)):
        if data is not None and data.path is not None and output.resolve().is_relative_to(data.path.resolve()):
            raise BadInput(f"{output}: expected a folder outside the data {data.path}; choose another output with -o")


def _compute(
    engine: Engine,
    worker: Worker,
    missing: Sequence[Chunk],
    workers: int | None,
    address: str | None,
    plugins: Sequence[str | Path],
    notice: Callable[[str], None],
    advance: Advance,
) -> Iterator[list[Row]]:
    if engine == "local" or not missing:
        return local.compute(worker, missing, notice=notice, advance=advance)
    from xaikit.benchmark.engines.ray import compute

    return compute(worker, missing, workers, address, plugins, notice, advance)


def _mask_measures(suite: Suite) -> list[str]:
    return [measure.title for measure in suite.measures if "masks" in measure.build().needs]


def _beyond_budget(suite: Suite, model: Model) -> list[str]:
    planned = {setting.method for setting in model.settings}
    return [method.title for method in suite.all_methods if method.title not in planned]


def _announcement(suite: Suite, index: int, units: int, planned: Plan) -> str:
    title, chunks = suite.models[index].title, planned.chunks
    left = sum(map(len, chunks))
    if not left:
        return f"{title}: all {units:,} units are done"
    passes = f"about {sum(chunk.cost.forwards for chunk in chunks):,.0f} forwards"
    passes += f" and {sum(chunk.cost.backwards for chunk in chunks):,.0f} backwards"
    added = sorted({name for chunk in chunks if chunk.earlier for name in chunk.values})
    again = " and are explained again, because their maps were not kept" if suite.maps == "drop" else ""
    known = f"; {planned.partial:,} of them lack only {', '.join(added)}{again}" if planned.partial else ""
    return f"{title}: {left:,} of {units:,} units to do, {passes}{known}"


def _describe(store: Store, suite: Suite, worker: Worker, index: int, command: str) -> dict[str, list[str]]:
    """Add a model's settings and pictures to the manifest; remove settings of other conditions.

    Returns:
        The methods that were removed and are not measured by this run, by reason.
    """
    model, earlier = worker.model(index), store.manifest()
    held = worker.protocol.identities.items() <= earlier.protocol.items()
    new = {setting.id: setting.about for setting in model.settings}
    current = next(iter(new.values()), {})
    names = {_name(about) for about in new.values()}
    kept, removed = dict[str, dict[str, Any]](), dict[str, list[str]]()
    for key, about in earlier.settings.items():
        reason = _not_pooled(about, current) or ("" if held else "the protocol changed")
        if key not in new and not reason and _name(about) not in names:
            kept[key] = about
        elif reason and _name(about) not in names and str(about.get("method")) not in removed.get(reason, []):
            removed.setdefault(reason, []).append(str(about.get("method")))
    title, models = suite.models[index].title, ", ".join(entry.title for entry in suite.models)
    images: dict[str, dict[str, dict[str, str]]] = {}
    for about in kept.values():
        data, other = str(about["dataset"]), str(about["model"])
        images.setdefault(data, {})[other] = earlier.images.get(data, {}).get(other, {})
    images.setdefault(suite.data.title, {})[title] = {picture.name: picture.id for picture in model.pictures}
    store.describe(
        Manifest(
            title=suite.title or f"Explanations of {models}",
            command=command or earlier.command,
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            seed=suite.seeds[0],
            threads=worker.threads,
            environment=report_environment(model.classifier) | {"threads": str(worker.threads)},
            suite=suite.shown(),
            methods=earlier.methods | _methods(suite),
            measures={
                entry.title: MeasureAbout(
                    name=entry.name,
                    direction=measure.direction,
                    meaning=first_line(measure.__doc__),
                    source=measure.source,
                )
                for entry, measure in ((entry, entry.build()) for entry in suite.measures)
            },
            protocol=worker.protocol.identities,
            settings=kept | new,
            images=images,
        )
    )
    return {reason: sorted(methods) for reason, methods in removed.items()}


def _methods(suite: Suite) -> dict[str, MethodAbout]:
    """Return what the docstrings of the methods say: of the file that holds one, else of the class."""
    kinds: dict[str, type[Method]] = {entry.title: METHODS.get(entry.name) for entry in suite.all_methods}
    own, methods = METHODS.names(), {}
    for label, kind in (kinds | ORACLES).items():
        docstring = sys.modules[kind.__module__].__doc__ if kind.name in own else None
        words = meaning(docstring) or first_line(kind.__doc__)
        methods[label] = MethodAbout(meaning=words, formula=formula(docstring), source=kind.source)
    return methods


def _not_pooled(about: dict[str, Any], current: dict[str, Any]) -> str:
    """Return why the rows of an earlier setting do not belong into the report of a current one, or ""."""
    if all(about.get(key) == current.get(key) for key in ("dataset", "model")):
        return changed(about, current)
    shared = ("target_rule", "environment")
    return changed({key: about.get(key) for key in shared}, {key: current.get(key) for key in shared})


def _name(about: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(about.get(key) for key in ("dataset", "model", "method", "seed"))
