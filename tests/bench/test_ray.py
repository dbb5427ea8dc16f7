"""The ray engine gives the rows of the local one, also when an actor dies on the way."""

from __future__ import annotations

import os
import signal

import pytest

from tests.bench.test_run import ASKED, rows
from xaikit.bench.engines.ray import Actors
from xaikit.bench.plan import chunks
from xaikit.bench.run import run
from xaikit.bench.store import Store
from xaikit.bench.suite import Suite
from xaikit.bench.work import Worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of ray
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
]


def process_of(actors: Actors, place: int) -> int:
    return actors._ray.get(actors.actors[place].__ray_call__.remote(lambda _: os.getpid()))


def test_two_actors_one_of_them_killed_give_the_rows_of_a_local_run(tmp_path):
    suite = Suite.of(**(ASKED | {"data": {"kind": "synthetic", "count": 12, "seed": 3}}))
    run(suite, tmp_path / "local", device="cpu")
    worker = Worker(suite, Store.open(tmp_path / "ray"), "cpu", 1)
    model = worker.model(0)
    missing = chunks(0, model.settings, model.pictures, set(), 1)
    with Actors(worker, 2, None) as actors:
        victim = process_of(actors, 0)
        for place, _ in enumerate(actors.compute(missing)):
            if place == 2:
                os.kill(victim, signal.SIGKILL)
        assert process_of(actors, 0) != victim, "it was started again"
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")


def test_the_engine_is_chosen_by_name(tmp_path):
    suite = Suite.of(**ASKED)
    outcome = run(suite, tmp_path / "ray", engine="ray", device="cpu", workers=2)
    assert (outcome.computed, outcome.failed) == (42, [])
    run(suite, tmp_path / "local", device="cpu")
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")
