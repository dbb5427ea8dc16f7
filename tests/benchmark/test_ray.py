"""The ray engine gives the rows of the local one, also when an actor dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.benchmark.test_run import ASKED, assert_same, rows
from xaikit.benchmark.engines import ray as engine
from xaikit.benchmark.engines.ray import Actors
from xaikit.benchmark.plan import plan
from xaikit.benchmark.run import run
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.worker import Worker
from xaikit.foundation.errors import BadInput

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of ray
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
]


PLUGIN = """
from dataclasses import dataclass
from xaikit.methods.base import METHODS
from xaikit.methods.controls.center import Center

@METHODS.register
@dataclass(frozen=True)
class Mine(Center):
    name = "tests-center"
"""


def process_of(actors: Actors, place: int) -> int:
    return actors._ray.get(actors.actors[place].__ray_call__.remote(lambda _: os.getpid()))


def test_two_actors_one_of_them_killed_give_the_rows_of_a_local_run(tmp_path, monkeypatch):
    suite = Suite.of(**(ASKED | {"data": {"kind": "synthetic", "count": 12, "seed": 3}}))
    run(suite, tmp_path / "local", device="cpu")
    compute, notices, again = Actors.compute, list[str](), list[bool]()

    def compute_and_kill(actors, chunks, advance=None):
        victim = process_of(actors, 0)
        for place, computed in enumerate(compute(actors, chunks, advance)):
            yield computed
            if place == 2:
                os.kill(victim, signal.SIGKILL)
        again.append(process_of(actors, 0) != victim)

    monkeypatch.setattr(Actors, "compute", compute_and_kill)
    signals = [signal.getsignal(number) for number in signal.valid_signals()]
    outcome = run(suite, tmp_path / "ray", engine="ray", device="cpu", workers=2, notice=notices.append)
    assert (outcome.computed, outcome.failed) == (72, [])
    assert [signal.getsignal(number) for number in signal.valid_signals()] == signals, "ray sets its own"
    assert_same(rows(tmp_path / "ray"), rows(tmp_path / "local"))
    assert again == [True], "it was started again"
    assert len([line for line in notices if "an actor died" in line]) == 1


def test_an_actor_that_dies_again_and_again_ends_the_run_in_one_line(tmp_path, monkeypatch):
    """Each actor is killed while it starts, so that its chunk is never computed; one retry shows it as three do."""
    monkeypatch.setattr(engine, "_RETRIES", 1)
    suite, notices = Suite.of(**ASKED), list[str]()
    worker = Worker(suite, Store.open(tmp_path / "ray"), "cpu", 1)
    model = worker.model(0)
    missing = plan(0, model.settings, model.pictures, {}, worker.protocol, suite.batch).chunks[:1]
    (tmp_path / "deadly.py").write_text("import os\nos.kill(os.getpid(), 9)\n", encoding="utf-8")
    begin = time.monotonic()
    with (
        Actors(worker, 1, None, [tmp_path / "deadly.py"], notices.append) as actors,
        pytest.raises(BadInput, match=r"^ray: an actor died 2 times with the same chunk \(.+\); run again$"),
    ):
        list(actors.compute(missing))
    assert time.monotonic() - begin < 120
    assert len(notices) == 1
    assert all("a new one computes its chunks again" in line and "\n" not in line for line in notices)


def test_actors_load_the_plugins_of_the_command(tmp_path):
    """In a process of its own, so that the method stays out of this one's registry."""
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "suite.toml").write_text(
        'models = ["texture-cnn"]\nmethods = ["tests-center"]\ncontrols = []\nmeasures = ["mean-map"]\nlevels = 1\n'
        'threads = 1\ndata = { kind = "synthetic", count = 2 }\n',
        encoding="utf-8",
    )
    options = ["--plugin", "mine.py", "--engine", "ray", "--workers", "1", "--device", "cpu", "-o", "out"]
    subprocess.run([sys.executable, "-m", "xaikit", "benchmark", "suite.toml", *options], cwd=tmp_path, check=True)
    assert {row["method"] for row in rows(tmp_path / "out").values()} == {"tests-center"}
