"""A benchmark's folder is read as it is: whole files, each unit once, the settings of the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report.rows import rows as drawn_rows
from xaikit.core.errors import BadInput
from xaikit.report.export import write_summaries
from xaikit.report.rows import read_benchmark


def rows(images: int = 3, **changed) -> list[dict]:
    known = {"setting": "s", "status": "ok", "error": None, "measure.srg": 0.5}
    return [row | known | changed for row in drawn_rows(images)]


def write(folder: Path, name: str, content: list[dict]) -> None:
    (folder / "rows").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(content), folder / "rows" / name)


def test_rows_survive_parquet(tmp_path):
    write(tmp_path, "a.parquet", rows()[:5])
    write(tmp_path, "b.parquet", rows()[5:])
    found = read_benchmark(tmp_path)
    assert sorted(found.rows, key=lambda row: row["unit_id"]) == sorted(rows(), key=lambda row: row["unit_id"])
    assert found.run == {"title": "Benchmark"}


def test_a_unit_that_stands_twice_is_read_once_and_the_better_one(tmp_path):
    failed = [row | {"status": "error", "error": "no luck"} for row in rows()[:2]]
    for name, content in (("a.parquet", failed), ("b.parquet", rows()), ("c.parquet", failed)):
        write(tmp_path, name, content)
    found = read_benchmark(tmp_path).rows
    assert len(found) == len(rows())
    assert all(row["status"] == "ok" for row in found)


def test_the_manifest_says_what_belongs_to_the_report(tmp_path):
    write(tmp_path, "a.parquet", rows() + rows(setting="older", unit_id="other"))
    write(tmp_path, ".half.parquet", rows(setting="s", unit_id="hidden"))
    manifest = {"title": "Mine", "settings": {"s": {}}, "measures": {"srg": {"direction": "higher"}}, "threads": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (tmp_path / "pictures.json").write_text('{"000.png": {"input": "images/0.png"}}', encoding="utf-8")
    found = read_benchmark(tmp_path)
    assert {row["setting"] for row in found.rows} == {"s"}
    assert len(found.rows) == len(rows())
    assert found.run == {"title": "Mine"}
    assert found.directions == {"srg": "higher"}
    assert found.pictures == {"000.png": {"input": tmp_path / "images/0.png"}}


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="run `xaikit benchmark` first"):
        read_benchmark(tmp_path)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"a\.parquet: expected rows, got something else"):
        read_benchmark(tmp_path)
    write(tmp_path, "a.parquet", [{"x": 1}])
    with pytest.raises(BadInput, match=r"expected rows of a benchmark, got the columns x"):
        read_benchmark(tmp_path)
    (tmp_path / "manifest.json").write_text("no JSON", encoding="utf-8")
    with pytest.raises(BadInput, match="expected JSON"):
        read_benchmark(tmp_path)


def test_summaries_have_every_method_and_measure(tmp_path):
    content = rows() + rows(dataset="more", **{"measure.srg": None})
    write_summaries(tmp_path, content, {"srg": "higher"})
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["method"] for line in lines if line["dataset"] == "drawn"] == [
        "grad-cam",
        "libra-cam",
        "saliency",
        "ones",
    ]
    assert {line["measure.srg"] for line in lines if line["dataset"] == "drawn"} == {"0.5"}
    assert {line["measure.srg"] for line in lines if line["dataset"] != "drawn"} == {""}, "what is unknown is empty"
    tables = (tmp_path / "summary.tex").read_text(encoding="utf-8")
    assert tables.count(r"\begin{tabular}") == 2
    assert tables.count("srg") == 1, "a column without values is left out"
    for line in tables.splitlines():
        assert "&" not in line or line.endswith(r" \\")
