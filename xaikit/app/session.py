"""A session: what one tab has chosen, and a thread that makes what the choice needs.

    choice -> wanted tasks, looks first, then maps and their curves by cost -> one thread -> results by task

A choice that changes drops what is no longer wanted and stops it if it runs. Results are kept, so that a choice that
comes back shows them at once. A network runs for one session at a time; the others wait for its lock and can be
stopped while they wait.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from xaikit.app.cache import Cache
from xaikit.app.compiling import COMPILED, wait_until_compiled
from xaikit.app.facts import CONTROLS, facts, offered_methods, weight
from xaikit.app.look import Look, look
from xaikit.app.models import Models
from xaikit.app.pictures import Shelf
from xaikit.app.stopping import StoppableContext, Stopped, portion
from xaikit.app.tasks import LEVELS, CurveTask, LookTask, MapTask, Task
from xaikit.foundation.errors import BadInput
from xaikit.images.fills import Fill
from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.protocol import Mask
from xaikit.model.borrow import borrowing
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.run.cost import Cost
from xaikit.run.portions import attempt

_KEPT = 200  # results in memory
_WAIT = 0.05  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Choice:
    """What a tab shows.

    Args:
        picture: id of a picture.
        models: one name, or two that are compared.
        target: index of the explained class; None is the first network's answer; of other classes its own.
        against: index of the class it is compared with, or None.
        layer: the layer of methods that read one; None is the network's own.
        methods: registry names, without the controls.
        mask: "soft" or "binary".
        fill: value of removed pixels.
        seed: seed of random draws.
    """

    picture: str
    models: tuple[str, ...]
    target: int | None = None
    against: int | None = None
    layer: str | None = None
    methods: tuple[str, ...] = ()
    mask: Mask = "soft"
    fill: Fill = "mean"
    seed: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a task has no result.

    Args:
        reason: one line.
        cancelled: whether the user stopped it.
    """

    reason: str
    cancelled: bool = False


@dataclass(frozen=True)
class Running:
    """The task that runs.

    Args:
        task: the task.
        context: counts its passes, and stops it.
        total: its passes, in forwards.
    """

    task: Task
    context: StoppableContext
    total: float

    @property
    def done(self) -> float:
        """Passes done so far."""
        counters = self.context.counters
        return min(self.total, weight(Cost(counters.forwards, counters.backwards)))


Result = Look | Attribution | KeepCurve | Failure


class Session:
    """One tab's choice and results; its thread runs until `close`.

    Args:
        models: the offered networks, shared by all sessions.
        shelf: the pictures, shared by all sessions.
        cache: maps on disk, shared by all sessions.
        choice: what is shown first.
    """

    def __init__(self, models: Models, shelf: Shelf, cache: Cache, choice: Choice) -> None:
        self.models, self.shelf, self.cache = models, shelf, cache
        self.choice = choice
        self.version = 0
        self.running: Running | None = None
        self._results: OrderedDict[Task, Result] = OrderedDict()
        self._drawn: dict[Task, dict[Any, Any]] = {}
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="xaikit app", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and what it does."""
        with self._changed:
            self._closed = True
            self._stop_unless(())
            self._changed.notify_all()

    def join(self, seconds: float = 10.0) -> bool:
        """Wait for the thread to end after `close`, and return whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def choose(self, **changes: Any) -> None:
        """Change the choice.

        Args:
            **changes: fields of `Choice`.

        Raises:
            BadInput: a value that the page does not offer.
        """
        with self._changed:
            if {"picture", "models"} & changes.keys():
                changes = {"target": None, "against": None, "layer": None} | changes
            choice = replace(self.choice, **changes)
            self._check(choice)
            self.choice = choice
            self._stop_unless(self.wanted())
            self._tell()

    def cancel(self, model: str, method: str) -> None:
        """Stop what a method still lacks, its map and its curve, and do not begin it again until `again`."""
        with self._changed:
            for task in self.wanted():
                if (task.look.model, task.method) == (model, method) and task not in self._results:
                    self._results[task] = Failure("cancelled", cancelled=True)
                    if self.running is not None and self.running.task == task:
                        self.running.context.stop.set()
            self._tell()

    def again(self, model: str, method: str) -> None:
        """Forget why a method has no map, so that it is tried again."""
        with self._changed:
            for task in self.wanted():
                failed = isinstance(self._results.get(task), Failure)
                if failed and task.look.model == model and task.method in ("", method):
                    del self._results[task]
            self._tell()

    def look(self, model: str) -> Look | Failure | None:
        """Return what a network makes of the picture, why not, or None while it is not known yet."""
        return cast("Look | Failure | None", self.result(LookTask(model, self.choice.picture)))

    def result(self, task: Task) -> Result | None:
        """Return the result of a task, or None."""
        with self._changed:
            if task in self._results:
                self._results.move_to_end(task)
            return self._results.get(task)

    def drawn(self, task: Task) -> dict[Any, Any]:
        """Return a dictionary for what is drawn of a task's result; it is forgotten with the result."""
        with self._changed:
            return self._drawn.setdefault(task, {})

    def wanted(self) -> list[Task]:
        """Return what the choice needs, in the order in which it is made."""
        looks = [LookTask(model, self.choice.picture) for model in self.choice.models]
        maps = [task for model in self.choice.models for task in self.maps(model)]
        costs: list[tuple[float, Task]] = []
        for task in maps:
            cost = self._weight(task)
            curve = CurveTask(task, self.choice.mask, self.choice.fill)
            costs += [(cost, task), (max(cost, float(LEVELS)), curve)]
        return [*looks, *(task for _, task in sorted(costs, key=lambda pair: pair[0]))]

    def maps(self, model: str) -> list[MapTask]:
        """Return the maps of a network that the choice needs, controls last; none before the network has looked."""
        seen = self.look(model)
        if not isinstance(seen, Look):
            return []
        choice, task = self.choice, LookTask(model, self.choice.picture)
        first = self.look(choice.models[0])
        alike = isinstance(first, Look) and first.labels == seen.labels  # else indices mean other classes
        own = first if alike and isinstance(first, Look) else seen  # networks of the same classes explain the same one
        target = choice.target if alike and choice.target is not None else int(own.answers.argmax())
        against = choice.against if alike else None
        layer = choice.layer if choice.layer in seen.grids else None
        return [
            MapTask(task, target, against, layer if facts(name).layered else None, name, choice.seed)
            for name in (*choice.methods, *CONTROLS)
        ]

    def settle(self, seconds: float) -> bool:
        """Wait until everything wanted is made, and return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.running is None and self._next() is None, seconds)

    def _check(self, choice: Choice) -> None:
        self.shelf.get(choice.picture)
        for model in choice.models:
            self.models.offer(model)
        if not 1 <= len(choice.models) <= 2:
            raise BadInput(f"models: expected one or two, got {len(choice.models)}")
        if strange := set(choice.methods) - set(offered_methods()) | set(choice.methods) & set(CONTROLS):
            raise BadInput(f"methods: expected those of the page, got {len(strange)} others; choose them there")
        if choice.mask not in get_args(Mask) or choice.fill not in get_args(Fill):
            raise BadInput("mask, fill: expected those of the page, got another; choose one there")
        seen = self.look(choice.models[0])
        count = len(seen.answers) if isinstance(seen, Look) else 0
        for index in (choice.target, choice.against):
            if index is not None and not (type(index) is int and 0 <= index < count):
                raise BadInput("class: expected one of the network's, got another; choose one of the bars")
        if choice.layer is not None and not (isinstance(seen, Look) and choice.layer in seen.grids):
            raise BadInput("layer: expected one of the thumbnails, got another; choose one there")
        if type(choice.seed) is not int or not 0 <= choice.seed < 2**31:
            raise BadInput("seed: expected a whole number from 0, got another")

    def _weight(self, task: MapTask) -> float:
        seen = self.look(task.look.model)
        cost = seen.costs.get(task.method) if isinstance(seen, Look) else None
        return weight(cost) if isinstance(cost, Cost) else 0.0

    def _stop_unless(self, wanted: Sequence[Task]) -> None:
        if self.running is not None and self.running.task not in wanted:
            self.running.context.stop.set()

    def _tell(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def _next(self) -> Task | None:
        for task in self.wanted():
            ready = not isinstance(task, CurveTask) or isinstance(self._results.get(task.map), Attribution)
            if ready and task not in self._results:
                return task
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (task := self._next()) is None:
                    self._changed.wait()
                if self._closed:
                    return
                assert task is not None
                self.running = self._begun(task)
                self._tell()
            result = self._outcome(self.running)
            with self._changed:
                self.running = None
                if result is not None:
                    self._results.setdefault(task, result)
                while len(self._results) > _KEPT:
                    self._drawn.pop(self._results.popitem(last=False)[0], None)
                self._tell()

    def _begun(self, task: Task) -> Running:
        seen, context = self.look(task.look.model), StoppableContext(seed=self.choice.seed)
        if not isinstance(seen, Look):
            return Running(task, context, 0.0)
        context.chunk_size = portion(seen.seconds)
        cost = seen.costs.get(task.method) if isinstance(task, MapTask) else None
        return Running(task, context, weight(cost) if isinstance(cost, Cost) else 0.0)

    def _outcome(self, running: Running) -> Result | None:
        """Return a task's result, why it has none, or None if it was stopped."""
        try:
            (outcome,) = attempt(lambda tasks: [self._made(task, running.context) for task in tasks], [running.task])
        except Stopped:
            return None
        if isinstance(outcome, Exception):
            return Failure(self.shelf.get(running.task.look.picture).told(outcome))
        return outcome

    def _made(self, task: Task, context: StoppableContext) -> Result:
        if isinstance(task, LookTask):
            classifier = self.models.get(task.model)
            with _alone(classifier, context):
                bound = {} if classifier.size is None else self.models.methods(task.model)
                return look(classifier, bound, self.shelf.get(task.picture), context)
        seen = self.result(task.look)
        if not isinstance(seen, Look):
            raise Stopped
        if task.method == COMPILED:
            wait_until_compiled(context)
        with _alone(seen.classifier, context):
            if isinstance(task, MapTask):
                return task.run(seen, context, self.cache)
            attribution = self.result(task.map)
            if not isinstance(attribution, Attribution):
                raise Stopped
            return task.run(seen, attribution, context)


@contextmanager
def _alone(classifier: Classifier, context: StoppableContext) -> Iterator[None]:
    """Hold the network's lock in a block; waiting for it can be stopped."""
    lock = borrowing(classifier.network)
    while not lock.acquire(timeout=_WAIT):
        context.check_stop()
    try:
        context.check_stop()
        yield
    finally:
        lock.release()
