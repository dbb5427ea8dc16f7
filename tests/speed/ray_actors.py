"""Two ray actors with one thread each, against one: the chunks a second of a benchmark that runs already."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

from tests.speed.contest import Claim, Contest
from xaikit.benchmark.plan import chunks
from xaikit.benchmark.score import Row
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Worker

__all__ = ["contests"]

IMAGES = 32
SUITE = {
    "models": [{"name": "squeezenet1_0", "weights": "random"}],
    "data": {"kind": "synthetic", "count": IMAGES},
    "methods": ["grad-cam", "layer-cam"],
    "controls": [],
    "measures": ["api"],
    "threads": 1,
    "batch": 4,
}


def contests() -> Iterator[Contest]:
    """Yield the one contest; the actors start, load the model and compute once off the clock."""
    if find_spec("ray") is None:
        print("ray_actors: left out, ray is not installed; pip install 'xaikit[ray]'")
        return
    from xaikit.benchmark.engines.ray import Actors

    folder = tempfile.mkdtemp()
    warnings.simplefilter("ignore", ResourceWarning)
    worker = Worker(Suite.of(**SUITE), Store.open(folder), "cpu", 1)
    model = worker.model(0)
    missing = chunks(0, model.settings, model.pictures, set(), 4)
    both = Actors(worker, 2, None)
    alone = copy.copy(both)
    alone.actors = both.actors[:1]

    def work(actors: Actors) -> list[list[Row]]:
        return list(actors.compute(missing))

    with both:
        yield Contest(
            "ray actors",
            f"squeezenet1_0 with random weights, {IMAGES} images, one thread an actor, rows written each time",
            {"two actors": lambda: work(both), "one actor": lambda: work(alone)},
            [Claim("two actors", "one actor", at_least=1.7)],
            rounds=3,
        )
