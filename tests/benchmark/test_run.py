"""A run can be cut, ordered, stopped and taken up in any way: the rows are the same to 1e-6."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from xaikit.benchmark import run as running
from xaikit.benchmark import score as scoring
from xaikit.benchmark.engines import local
from xaikit.benchmark.run import run
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.images.synthetic import draw
from xaikit.methods.base import METHODS
from xaikit.methods.base import attribute_all as explain_all

MEASURED = {"ms"}
"""Columns that a clock fills."""

ASKED = {
    "models": ["texture-cnn"],
    "data": {"kind": "synthetic", "count": 3, "seed": 3},
    "methods": ["grad-cam", "hires-cam"],
    "controls": ["random", "center"],
    "measures": ["api", "keep-auc", "pointing-game"],
    "levels": 4,
    "threads": 1,
    "batch": 2,
}
COSTLY = ["libra-cam", {"name": "integrated-gradients", "params": {"steps": 4}}]
"""Methods that keep something between images, or take many passes for one."""


def rows(folder: Path) -> dict[str, dict]:
    found = [row for file in Store(folder).files() for row in pq.ParquetFile(file).read().to_pylist()]
    units = {row["unit_id"]: {key: value for key, value in row.items() if key not in MEASURED} for row in found}
    assert len(units) == len(found), "a unit stands twice"
    return units


def assert_same(found: dict[str, dict], expected: dict[str, dict]) -> None:
    """Compare rows: numbers to 1e-6, everything else exactly."""
    assert found.keys() == expected.keys()
    for unit, row in expected.items():
        assert found[unit].keys() == row.keys()
        for column, value in row.items():
            got = found[unit][column]
            if isinstance(value, float) or (isinstance(value, list) and value and isinstance(value[0], float)):
                assert got == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True), (unit, column)
            else:
                assert got == value, (unit, column)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    outcome = run(Suite.of(**ASKED), folder)
    assert (outcome.units, outcome.before, outcome.computed, outcome.failed) == (18, 0, 18, [])
    return rows(folder)


def test_rows_hold_what_was_measured(whole):
    assert len(whole) == 3 * 6
    first = next(iter(whole.values()))
    assert list(first)[:3] == ["unit_id", "image_id", "method"]
    assert {row["method"] for row in whole.values()} >= {"grad-cam", "random", "oracle", "anti-oracle"}
    for row in whole.values():
        assert row["status"] == "ok"
        assert row["threads"] == 1
        assert len(row["o_soft"]) == len(row["o_binary"]) == 5
        assert row["o_binary"][0] == row["y"]
        assert row["measure.api"] == pytest.approx(max(row["o_soft"][0] - row["y"], 0) / row["y"])
    oracle = [row for row in whole.values() if row["method"] == "oracle"]
    assert all(row["measure.pointing-game"] == 1 for row in oracle)


def test_measures_of_masks_are_named_where_the_data_have_none(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    notices: list[str] = []
    asked = ASKED | {"data": {"kind": "images", "path": str(folder)}, "methods": ["grad-cam"], "controls": []}
    run(Suite.of(**asked), tmp_path / "out", notice=notices.append)
    assert notices[0] == "the data have no masks; skipped measures: pointing-game"
    notices.clear()
    run(Suite.of(**(asked | {"measures": ["api"]})), tmp_path / "out", notice=notices.append)
    assert not any("masks" in line for line in notices)


@pytest.mark.parametrize("size", [1, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 100))])
def test_any_chunk_size_gives_the_same_rows(whole, tmp_path, size):
    run(Suite.of(**ASKED), tmp_path, chunk=size)
    assert_same(rows(tmp_path), whole)


@pytest.mark.slow
def test_any_chunk_size_gives_the_same_rows_of_costly_methods(tmp_path):
    suite = Suite.of(**(ASKED | {"methods": COSTLY, "controls": [], "measures": ["srg"]}))
    for size in (1, 100):
        run(suite, tmp_path / str(size), chunk=size)
    assert_same(rows(tmp_path / "1"), rows(tmp_path / "100"))


def test_any_order_gives_the_same_rows(whole, tmp_path, monkeypatch):
    def shuffled(worker, chunks):
        order = list(chunks)
        random.Random(5).shuffle(order)
        return local.compute(worker, order)

    monkeypatch.setattr(running, "_compute", lambda engine, worker, missing, *rest: shuffled(worker, missing))
    run(Suite.of(**ASKED), tmp_path, chunk=1)
    assert_same(rows(tmp_path), whole)


@pytest.mark.slow
def test_pictures_decoded_in_other_processes_give_the_same_rows(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(
        running, "_compute", lambda engine, worker, missing, *rest: local.compute(worker, missing, processes=2)
    )
    state = torch.get_rng_state()
    run(Suite.of(**ASKED), tmp_path, chunk=1)
    assert_same(rows(tmp_path), whole)
    assert torch.equal(torch.get_rng_state(), state)


def test_processes_decode_where_it_is_worth_their_start(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert local.readers(999, busy=1) == 0
    assert local.readers(1000, busy=1) == 7
    assert local.readers(1000, busy=8) == 0
    assert local.readers(1000, busy=9) == 0


@pytest.mark.slow
def test_shards_together_are_the_whole(whole, tmp_path):
    suite = Suite.of(**ASKED)
    first = run(suite, tmp_path, shard=(0, 2))
    second = run(suite, tmp_path, shard=(1, 2))
    assert (first.units, second.units) == (12, 6)
    assert_same(rows(tmp_path), whole)


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_a_new_method_is_all_that_is_computed(whole, tmp_path):
    fewer = Suite.of(**(ASKED | {"methods": ["grad-cam"]}))
    assert run(fewer, tmp_path).computed == 15
    outcome = run(Suite.of(**ASKED), tmp_path)
    assert (outcome.before, outcome.computed) == (15, 3)
    assert_same(rows(tmp_path), whole)
    assert run(Suite.of(**ASKED), tmp_path).computed == 0


@pytest.mark.slow
def test_lost_torn_and_stray_files_do_no_harm(whole, tmp_path):
    run(Suite.of(**ASKED), tmp_path, chunk=1)
    files = Store(tmp_path).files()
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-9])
    (tmp_path / "rows" / ".0123.tmp.parquet").write_bytes(b"PAR1 half a file")
    assert run(Suite.of(**ASKED), tmp_path).computed == 18
    assert_same(rows(tmp_path), whole)
    assert not list((tmp_path / "rows").glob(".*"))


@pytest.mark.slow
def test_a_failing_method_fails_alone_and_can_be_tried_again(whole, tmp_path, monkeypatch):
    def failing(methods, inputs, *rest):
        if methods[0].name == "center" and len(inputs) == 1:
            raise RuntimeError("no luck\nat all")
        if methods[0].name == "center":
            raise RuntimeError("no luck together")
        return explain_all(methods, inputs, *rest)

    monkeypatch.setattr(scoring, "attribute_all", failing)
    notices: list[str] = []
    outcome = run(Suite.of(**ASKED), tmp_path, notice=notices.append)
    assert (outcome.computed, len(outcome.failed)) == (15, 3)
    assert {(method, reason) for _, method, reason in outcome.failed} == {("center", "RuntimeError: no luck")}
    assert sum("center: RuntimeError: no luck" in line for line in notices) == 3
    found = rows(tmp_path)
    assert_same(
        {unit: row for unit, row in found.items() if row["status"] == "ok"},
        {unit: row for unit, row in whole.items() if row["method"] != "center"},
    )
    monkeypatch.undo()
    still = run(Suite.of(**ASKED), tmp_path)
    assert (still.computed, len(still.failed)) == (0, 3), "failures wait until they are asked for"
    again = run(Suite.of(**ASKED), tmp_path, retry_failed=True)
    assert (again.computed, again.failed) == (3, [])
    assert_same(rows(tmp_path), whole)


def test_an_unreadable_picture_is_rows_with_the_reason(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (80, 64), (30 if name == "a" else 200, 90, 40)).save(folder / f"{name}.png")
    (folder / "<bad>.png").write_text("no picture", encoding="utf-8")
    data = {"kind": "auto", "path": folder}
    outcome = run(Suite.of(**(ASKED | {"data": data, "methods": ["grad-cam"]})), tmp_path / "out")
    assert (outcome.units, outcome.computed) == (9, 6)
    assert {image for image, _, _ in outcome.failed} == {"<bad>.png"}
    bad = [row for row in rows(tmp_path / "out").values() if row["image_id"] == "<bad>.png"]
    assert [row["status"] for row in bad] == ["error"] * 3
    assert all("expected a picture" in row["error"] and row["y"] is None for row in bad)


def test_a_label_does_not_depend_on_its_neighbours(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place, pixels in enumerate(draw(3, seed=1).pixels):
        to_pil_image(pixels).save(folder / f"{place}.png")
    (folder / "labels.csv").write_text("file,class_index\n1.png,4\n", encoding="utf-8")
    data = {"kind": "images", "path": folder, "labels": "labels.csv"}
    asked = ASKED | {"data": data, "methods": ["grad-cam"], "controls": [], "measures": ["api"]}
    for size in (1, 3):
        run(Suite.of(**asked), tmp_path / str(size), chunk=size)
    found = rows(tmp_path / "1")
    assert_same(found, rows(tmp_path / "3"))
    assert {(row["image_id"], row["label"]) for row in found.values()} == {
        ("0.png", None),
        ("1.png", 4),
        ("2.png", None),
    }
    outcome = run(Suite.of(**(asked | {"target": "label"})), tmp_path / "label")
    assert {image for image, _, _ in outcome.failed} == {"0.png", "2.png"}
    assert outcome.computed == 1


@pytest.mark.slow
def test_methods_that_leave_the_report_are_named(tmp_path):
    def told(**changed):
        notices: list[str] = []
        suite = ASKED | {"controls": [], "methods": ["grad-cam", "hires-cam"]} | changed
        run(Suite.of(**suite), tmp_path, notice=notices.append)
        return [line for line in notices if "no longer" in line]

    assert told() == told(methods=["grad-cam"]) == []
    assert told(methods=["grad-cam"], measures=["api"]) == [], "its rows have what is asked for"
    for changed in ({"measures": ["api", "mean-map"]}, {"levels": 5}):
        told()
        assert told(methods=["grad-cam"], **changed) == [
            "no longer in the report, because the protocol changed: hires-cam"
        ]
    assert told() == []


@pytest.mark.slow
def test_each_seed_is_a_run_of_its_own(whole, tmp_path):
    outcome = run(Suite.of(**(ASKED | {"seeds": [0, 1]})), tmp_path)
    assert outcome.units == 36
    found = rows(tmp_path)
    assert_same({unit: found[unit] for unit in whole}, whole)
    by_method: dict[str, dict[tuple[str, int], list[float]]] = {}
    for row in found.values():
        by_method.setdefault(row["method"], {})[row["image_id"], row["seed"]] = row["o_soft"]
    for method, curves in by_method.items():
        same = [curves[image, 0] == curves[image, 1] for image, seed in curves if seed == 0]
        assert all(same) != (method == "random"), method


def test_the_label_can_be_the_target(tmp_path):
    asked = ASKED | {"methods": ["grad-cam"], "controls": [], "measures": ["api"]}
    run(Suite.of(**(asked | {"target": "label"})), tmp_path / "label")
    assert all(row["target"] == row["label"] for row in rows(tmp_path / "label").values())
    run(Suite.of(**(asked | {"target": "dots"})), tmp_path / "dots")
    assert {row["target_name"] for row in rows(tmp_path / "dots").values()} == {"dots"}


def test_all_methods_of_the_registry_can_be_asked_for():
    for name in METHODS.names():
        Suite.of(**(ASKED | {"methods": [name], "controls": []}))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_three_times_nothing_is_lost_and_nothing_twice(tmp_path):
    asked = ASKED | {
        "data": {"kind": "synthetic", "count": 30, "seed": 3},
        "methods": ["grad-cam", *COSTLY],
        "batch": 2,  # one file of rows per batch
    }
    run(Suite.of(**asked), tmp_path / "whole")
    program = (
        "import json, sys\n"
        "from xaikit.benchmark.run import run\n"
        "from xaikit.benchmark.suite import Suite\n"
        "run(Suite.of(**json.loads(sys.argv[1])), sys.argv[2], chunk=1)\n"
    )
    folder, stream, kills = tmp_path / "killed", random.Random(1), 0
    while kills < 3:
        child = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(asked), str(folder)], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        before = len(Store(folder).files())
        while child.poll() is None and len(Store(folder).files()) < before + 2:
            time.sleep(0.005)
        time.sleep(stream.uniform(0, 0.2))
        child.kill()
        kills += child.wait() == -signal.SIGKILL
        assert kills or child.returncode == 0
        assert len(Store(folder).files()) < 15, "it was done before it could be killed three times"
    run(Suite.of(**asked), folder, chunk=5)
    assert_same(rows(folder), rows(tmp_path / "whole"))
