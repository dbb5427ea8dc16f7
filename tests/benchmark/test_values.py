"""A row has values, each of its own identity: what is added is computed alone, and what differs is never mixed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.benchmark.test_run import ASKED, assert_same, rows
from xaikit.benchmark import score as scoring
from xaikit.benchmark import worker as working
from xaikit.benchmark.own import Own
from xaikit.benchmark.run import run
from xaikit.benchmark.score import Images
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.extend import MEASURES, Measure
from xaikit.foundation.errors import BadInput
from xaikit.images.synthetic import draw
from xaikit.measures.removal.masked_forwards import Stream
from xaikit.methods.base import attribute_all
from xaikit.report.numbers.read import read_benchmark
from xaikit.runs.page import write_report

pytestmark = pytest.mark.slow

FEW = ASKED | {"methods": ["grad-cam"], "controls": ["random"]}
UNITS = 12
"""Three pictures; grad-cam, random, oracle and anti-oracle."""


class Tally:
    """Counts what a run computes: explained and measured images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.explained, self.curves, self.measures, self.lines = 0, 0, dict[str, int](), list[str]()

        def explain(methods, inputs, *rest):
            self.explained += len(inputs)
            return attribute_all(methods, inputs, *rest)

        def compute(measure, subject, label):
            self.measures[label] = self.measures.get(label, 0) + len(subject.pixels)
            return computed(measure, subject, label)

        def stream(self_, protocol, steps):
            self.curves += 1
            return measure(self_, protocol, steps)

        computed, measure = scoring.computed, Stream.measure
        monkeypatch.setattr(scoring, "attribute_all", explain)
        monkeypatch.setattr(scoring, "computed", compute)
        monkeypatch.setattr(Stream, "measure", stream)

    def of(self, folder: Path, **changed):
        self.explained, self.curves = 0, 0
        self.measures.clear()
        self.lines.clear()
        outcome = run(Suite.of(**(FEW | changed)), folder, notice=self.lines.append)
        return outcome.computed, self.explained, self.measures


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Tally:
    return Tally(monkeypatch)


def shown(folder: Path) -> dict[str, dict[str, float]]:
    """Return the means of the report's measures by method."""
    (summary,) = read_benchmark(folder).summaries.values()
    return {result.method: result.measures for result in summary.results}


@pytest.mark.parametrize("maps", ["keep", "drop"])
def test_an_added_measure_is_all_that_is_computed(tmp_path, tally, maps):
    few, more = ["api", "pointing-game"], ["api", "pointing-game", "srg", "sparseness"]
    assert tally.of(tmp_path / "whole", measures=more)[0] == UNITS
    assert tally.of(tmp_path / "out", measures=few, maps=maps)[0] == UNITS
    computed, explained, measures = tally.of(tmp_path / "out", measures=more, maps=maps)
    assert (computed, measures) == (UNITS, {"srg": UNITS, "sparseness": UNITS})
    assert (explained == 0) == (maps == "keep")
    again = " and are explained again, because their maps were not kept" if maps == "drop" else ""
    assert tally.lines[0].endswith(f"{UNITS} of them lack only measure.sparseness, measure.srg{again}")
    assert_same(rows(tmp_path / "out"), rows(tmp_path / "whole"))
    assert tally.of(tmp_path / "out", measures=more, maps=maps) == (0, 0, {})
    assert tally.of(tmp_path / "out", measures=["srg"], maps=maps) == (0, 0, {}), "a dropped measure computes nothing"
    assert {name for measures in shown(tmp_path / "out").values() for name in measures} == {"srg"}
    assert all(row["o_soft"] is None and "measure.api" not in row for row in read_benchmark(tmp_path / "out").rows)
    assert "left_out" not in read_benchmark(tmp_path / "out").run
    assert tally.of(tmp_path / "out", measures=few, maps=maps) == (0, 0, {})
    assert all(len(row["o_soft"]) == 5 for row in read_benchmark(tmp_path / "out").rows)


def test_another_protocol_is_computed_and_never_mixed(tmp_path, tally):
    def protocol(**params):
        return {"measures": ["api", {"name": "srg", "params": params}], "maps": "keep"}

    tally.of(tmp_path, **protocol())
    before = shown(tmp_path)
    assert tally.of(tmp_path, **protocol(steps=4)) == (UNITS, 0, {"srg": UNITS})
    assert shown(tmp_path) != before
    assert tally.of(tmp_path, **protocol()) == (0, 0, {}), "the earlier values are still there"
    assert shown(tmp_path) == before
    assert read_benchmark(tmp_path).run["left_out"] == [
        "12 rows of texture-cnn on texture in shape left out: the protocol changed"
    ]
    assert tally.of(tmp_path, **protocol(), levels=3) == (UNITS, 0, {}), "only the curves"
    assert {len(row["o_soft"]) for row in read_benchmark(tmp_path).rows} == {4}
    assert shown(tmp_path) == before


def test_keep_curves_are_measured_only_for_measures_that_read_them(tmp_path, tally):
    tally.of(tmp_path, measures=["pointing-game"])
    assert tally.curves == 0
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert ">pointing" in page
    assert "No measure of this run reads the keep curves" in page
    found = read_benchmark(tmp_path).rows
    assert all(row["levels"] is None and row["o_soft"] is None and 0 < row["y"] <= 1 for row in found)
    confidence = [row["y"] for row in found]
    assert tally.of(tmp_path, measures=["pointing-game", "api"])[0] == UNITS
    assert tally.curves > 0
    assert [row["y"] for row in read_benchmark(tmp_path).rows] == pytest.approx(confidence, abs=1e-6)


def test_an_added_measure_that_fails_is_named_and_loses_nothing(tmp_path, tally):
    @dataclass(frozen=True)
    class Fails(Measure):
        name, direction, range, source = "fails-here", "higher", (0.0, 1.0), "a test"

        def compute(self, subject):
            raise RuntimeError("no luck")

    MEASURES.names()
    MEASURES.register(Fails)
    try:
        tally.of(tmp_path, measures=["api"], maps="keep")
        before = shown(tmp_path)
        both = {"measures": ["api", "fails-here"], "maps": "keep"}
        outcome = run(Suite.of(**(FEW | both)), tmp_path)
        assert (outcome.computed, len(outcome.failed)) == (0, UNITS)
        assert {reason for *_, reason in outcome.failed} == {"RuntimeError: no luck"}
        assert tally.of(tmp_path, **both) == (0, 0, {}), "it waits until it is asked for"
        with pytest.raises(AssertionError):
            assert shown(tmp_path) == before
        assert tally.of(tmp_path, measures=["api"], maps="keep") == (0, 0, {})
        assert shown(tmp_path) == before
    finally:
        del MEASURES._entries["fails-here"]


def test_masks_that_come_later_are_measured(tmp_path):
    drawn = draw(2, 5)
    suite = Suite.of(**(FEW | {"data": {"kind": "given"}, "measures": ["pointing-game", "mean-map"]}))
    for masks, computed in ((None, 4), (drawn.objects, 8), (drawn.objects, 0), (~drawn.objects, 8)):
        images = Images("given", ["a", "b"], drawn.pixels, None, masks)
        assert run(suite, tmp_path, own=Own(images=images)).computed == computed
        values = [row.get("measure.pointing-game") for row in read_benchmark(tmp_path).rows]
        assert all(value is None for value in values) == (masks is None)


def test_a_stop_while_a_measure_is_added_leaves_whole_rows(tmp_path, tally, monkeypatch):
    tally.of(tmp_path, measures=["api"], maps="keep")
    both, computed = {"measures": ["api", "mean-map"], "maps": "keep"}, scoring.computed

    def stopped(measure, subject, label):
        if subject.method.name == "random":
            raise KeyboardInterrupt
        return computed(measure, subject, label)

    monkeypatch.setattr(scoring, "computed", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(Suite.of(**(FEW | both)), tmp_path)
    found = read_benchmark(tmp_path)
    reason = "values are missing, run the benchmark again"
    assert found.run["left_out"] == [f"{UNITS - len(found)} rows of texture-cnn on texture in shape left out: {reason}"]
    assert 0 < len(found) < UNITS
    monkeypatch.setattr(scoring, "computed", computed)
    assert tally.of(tmp_path, **both)[0] == UNITS - len(found)
    assert (len(read_benchmark(tmp_path)), "left_out" in read_benchmark(tmp_path).run) == (UNITS, False)


def test_what_was_computed_is_written_while_a_chunk_is_under_way(tmp_path, monkeypatch):
    """An interrupt in the middle of a chunk loses the step that it meets, and no row before it."""
    suite = Suite.of(**(FEW | {"methods": ["grad-cam", "saliency"], "controls": [], "measures": ["mean-map"]}))

    def interrupted(methods, inputs, *rest):
        if methods[0].name == "saliency":
            raise KeyboardInterrupt
        return attribute_all(methods, inputs, *rest)

    monkeypatch.setattr(scoring, "attribute_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(suite, tmp_path, chunk=100)
    assert {row["method"] for row in rows(tmp_path).values()} == {"grad-cam"}
    monkeypatch.undo()
    assert run(suite, tmp_path, chunk=100).before == 2


def test_rows_are_written_after_every_step_that_is_long_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(working, "_PAUSE", 0.0)
    monkeypatch.setattr(working, "images_of_a_step", lambda *_: 1)
    suite = Suite.of(**(FEW | {"controls": [], "measures": ["mean-map"], "batch": 16}))
    seen: list[int] = []
    run(suite, tmp_path, progress=lambda *_: seen.append(sum(1 for _ in Store(tmp_path).files())))
    assert sorted(set(seen)) == list(range(max(seen) + 1))
    assert len(Store(tmp_path).files()) == 3, "one for each image"


def test_progress_moves_within_a_unit_by_forwards(tmp_path):
    seen: list[tuple[int, int, str]] = []
    rise = {"name": "rise", "params": {"samples": 64}}
    one = {"methods": [rise], "controls": [], "data": {"kind": "synthetic", "count": 1}}
    suite = Suite.of(**(FEW | one | {"measures": ["mean-map"]}))
    run(suite, tmp_path, progress=lambda *call: seen.append(call))
    done = [count for count, *_ in seen]
    assert done == sorted(done)
    assert len({count for count, _, unit in seen if unit == "forwards, 0 of 1 units"}) > 3, "before the first row"
    assert seen[-1][0] == seen[-1][1]
    assert seen[-1][2] == "forwards, 1 of 1 units"


def test_an_index_knows_rows_that_others_make_superfluous(tmp_path):
    store = Store.open(tmp_path)

    def write(unit: str, status: str, **values: str) -> None:
        text = "{" + ",".join(f'"measure.{name}":"{value}"' for name, value in values.items()) + "}"
        row = {"unit_id": unit, "setting": "s", "image_id": "i", "method": "m", "status": status, "protocol": text}
        store.write([row | {f"measure.{name}": 1.0 for name in values}], [])

    write("a", "ok", api="1")
    write("a", "ok", api="1", srg="1")
    write("a", "error", srg="1")
    write("b", "ok", api="1")
    write("b", "ok", api="2")
    write("c", "error", api="1")
    write("c", "error", api="1", srg="1")
    found = {unit: sorted((row.status, sorted(row.values)) for row in rows) for unit, rows in store.sweep().items()}
    api, other, srg = ("measure.api", "1"), ("measure.api", "2"), ("measure.srg", "1")
    assert found == {
        "a": [("ok", [api, srg])],
        "b": [("ok", [api]), ("ok", [other])],
        "c": [("error", [api]), ("error", [api, srg])],
    }
    assert {unit: len(rows) for unit, rows in store.index().items()} == {"a": 1, "b": 2, "c": 2}


def test_two_runs_in_one_folder_never_mix(tmp_path, monkeypatch):
    """While a run computes, a second one of the same suite is refused in one line."""
    suite = Suite.of(**(FEW | {"controls": [], "measures": ["mean-map"]}))
    refused: list[str] = []

    def second(methods, inputs, *rest):
        with pytest.raises(BadInput, match="expected a folder that no other run writes to") as caught:
            run(suite, tmp_path)
        refused.append(str(caught.value))
        return attribute_all(methods, inputs, *rest)

    monkeypatch.setattr(scoring, "attribute_all", second)
    assert run(suite, tmp_path).computed == 3
    assert refused
    assert not any("\n" in line for line in refused)
    assert all(math.isfinite(row["map_mean"]) for row in rows(tmp_path).values())
