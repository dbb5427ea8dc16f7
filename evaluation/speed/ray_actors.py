"""Two ray actors with one thread each against one, in a benchmark that is running already."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

from evaluation.speed.contest import Claim, Contest
from xaikit.benchmark.plan import chunks
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Worker

__all__ = ["contests"]

SUITE = {
    "models": [{"name": "squeezenet1_0", "weights": "random"}],
    "data": {"kind": "synthetic", "count": 32},
    "methods": ["grad-cam", "layer-cam"],
    "controls": [],
    "measures": ["api"],
    "threads": 1,
    "batch": 4,
}


def contests() -> Iterator[Contest]:
    """Yield the one contest; the round that warms up starts the actors and loads the model."""
    if find_spec("ray") is None:
        print("ray_actors: left out, ray is not installed; pip install 'xaikit[ray]'")
        return
    from xaikit.benchmark.engines.ray import Actors

    warnings.simplefilter("ignore", ResourceWarning)
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Suite.of(**SUITE), Store.open(folder), "cpu", 1)
        model = worker.model(0)
        missing = chunks(0, model.settings, model.pictures, set(), 4)
        with Actors(worker, 2, None) as both:
            single = copy.copy(both)
            single.actors = both.actors[:1]
            yield Contest(
                "ray actors",
                "squeezenet1_0 with random weights, 32 images, one thread an actor, rows written each time",
                {"two actors": lambda: list(both.compute(missing)), "one actor": lambda: list(single.compute(missing))},
                [Claim("two actors", "one actor", 1 / 1.7)],
                rounds=3,
            )
