"""A benchmark's folder is read as it is: whole files, each unit once, the settings of the report."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xaikit
from tests.report.rows import METHODS, measures, write_summaries
from tests.report.rows import rows as drawn_rows
from xaikit.benchmark.manifest import MeasureAbout
from xaikit.benchmark.rows import COLUMNS
from xaikit.foundation.errors import BadInput, UnknownName, XaikitWarning
from xaikit.report.numbers.aggregate import summaries
from xaikit.report.numbers.export import write_summaries as write_summaries_of
from xaikit.report.numbers.latex import Latex, summary_tex
from xaikit.report.numbers.read import listed_pictures, read_benchmark
from xaikit.report.numbers.tables import summary_table

GONE = "12 rows of net on drawn left out: the data set or the model is no longer in the report"


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
    files = {"input": "0.png", "grad-cam": "lost.png"}
    pictures = [{"dataset": "drawn", "model": "net", "image": "000.png", "files": files}]
    (tmp_path / "pictures.json").write_text(json.dumps({"pictures": pictures}), encoding="utf-8")
    (tmp_path / "0.png").write_bytes(b"")
    found = read_benchmark(tmp_path)
    assert {row["setting"] for row in found.rows} == {"s"}
    assert len(found.rows) == len(rows())
    assert found.run == {"title": "Mine", "left_out": [GONE]}
    assert found.measures == {"srg": MeasureAbout(direction="higher")}
    assert listed_pictures(tmp_path) == {("drawn", "net"): {"000.png": {"input": tmp_path / "0.png"}}}, (
        "what is lost is left out"
    )


def test_rows_are_a_table_with_the_columns_of_the_documentation(tmp_path, caplog):
    write(tmp_path, "a.parquet", rows())
    write(tmp_path, "b.parquet", rows(setting="older", unit_id="other"))
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": {"s": {}}}), encoding="utf-8")
    table = xaikit.read_rows(tmp_path)
    assert len(table) == len(rows())
    assert table.groupby("method")["measure.srg"].mean().to_dict() == dict.fromkeys(METHODS, 0.5)
    assert GONE in caplog.text, "what is left out is said"
    page = (Path(__file__).resolve().parents[2] / "docs" / "pages" / "benchmark.md").read_text(encoding="utf-8")
    assert [name for name in COLUMNS if f"`{name}`" not in page] == []


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
    write_summaries(tmp_path, content, measures(srg="higher"))
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
    assert all(tables.count(rule) == 2 for rule in (r"\toprule", r"\bottomrule"))
    for line in tables.splitlines():
        assert "&" not in line or line.endswith(r" \\")


def test_the_csv_has_intervals_and_the_test_against_the_best(tmp_path):
    write_summaries(tmp_path, rows(images=8), measures(srg="higher"))
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        lines = {line["method"]: line for line in csv.DictReader(stream)}
    for line in lines.values():
        assert float(line["apd_low"]) <= float(line["apd"]) <= float(line["apd_high"])
        assert (line["measure.srg_low"], line["measure.srg_high"]) == ("0.5", "0.5")
    known = {name for name, line in lines.items() if line["apd_p"]}
    best = min(lines.keys() - {"ones"}, key=lambda name: float(lines[name]["apd"]))
    assert known == lines.keys() - {"ones", best}
    assert "ms_p" not in lines["ones"]


def test_no_number_stands_twice_in_the_csv(tmp_path):
    content = [row | {"measure.tie-rate": float(row["o_soft"][0] == row["y"])} for row in rows()]
    write_summaries(tmp_path, content + rows(dataset="more"), measures(**{"tie-rate": "none"}))
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        names = next(csv.reader(stream))
    assert len(names) == len(set(names))
    assert "ties" in names
    assert not [name for name in names if "tie-rate" in name]
    other = [row | {"measure.tie-rate": 0.25} for row in content]
    write_summaries(tmp_path, other)
    assert "measure.tie-rate" in (tmp_path / "summary.csv").read_text(encoding="utf-8"), "it has other values"


@pytest.fixture(scope="module")
def tables():
    drawn = rows(2) + rows(2, model="other")
    return {name: summary_table(own.results, measures(srg="higher")) for name, own in summaries(drawn).items()}


def test_a_table_for_a_paper_has_the_columns_asked_for_and_its_caption(tables):
    latex = Latex(("srg", "keep-auc-soft", "APD", "ms"), "50 % of {all}", intervals=False)
    lines = summary_tex(tables, latex).splitlines()
    assert [line for line in lines if line.startswith("method")] == [
        r"method & srg $\uparrow$ & KeepAUC $\uparrow$ & APD $\downarrow$ & ms $\downarrow$ \\"
    ] * 2
    assert not any("scriptsize" in line for line in lines)
    assert r"\caption{50 \% of \{all\} (net, drawn)}" in lines
    assert lines.count(r"\end{table}") == lines.count(r"\begin{tabular}{lrrrr}") == 2
    assert "scriptsize" in summary_tex(tables, Latex(("apd",)))
    assert "table}" not in summary_tex(tables, Latex())


@pytest.mark.parametrize(
    ("latex", "message"),
    [
        ({"columns": ("ape",)}, "unknown column 'ape'; did you mean api or apd?"),
        ({"columns": ("apd", "")}, "columns: expected names such as apd,ms, got 'apd', ''"),
        ({"columns": (3,)}, "columns: expected names such as apd,ms, got 3"),
        ({"columns": None}, "columns: expected a list of names, got NoneType"),
        ({"caption": None}, "caption: expected a text, got NoneType"),
    ],
)
def test_a_table_that_cannot_be_written_is_one_line_and_leaves_all_as_it_was(tmp_path, tables, latex, message):
    with pytest.raises((BadInput, UnknownName), match=re.escape(message)):
        write_summaries_of(tmp_path, tables, Latex(**latex))
    assert list(tmp_path.iterdir()) == []


def test_one_image_leaves_the_intervals_empty(tmp_path):
    write_summaries(tmp_path, rows(images=1))
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        assert {line["apd_low"] for line in csv.DictReader(stream)} == {""}
    assert "{\\scriptsize --}" in (tmp_path / "summary.tex").read_text(encoding="utf-8")


def test_names_are_escaped_for_latex(tmp_path):
    write_summaries(tmp_path, [row | {"method": "a_b%\\<c>\n"} for row in rows()])
    tables = (tmp_path / "summary.tex").read_text(encoding="utf-8")
    assert r"a\_b\%\textbackslash{}\textless{}c\textgreater{} & " in tables


@pytest.mark.slow
def test_a_large_report_is_made_without_torch_and_scipy_in_seconds():
    code = """
import sys, time
from tests.report.rows import rows, aggregate, measures, paired_differences
methods = {f"m{place}": "gradient" for place in range(10)}
drawn = [row | {f"measure.q{q}": row["y"] * q for q in range(20)} for row in rows(500, methods=methods)]
begin = time.process_time()

from xaikit.report.numbers.compare import pareto, rank_matrix
from xaikit.report.numbers.export import summary_csv
from xaikit.report.numbers.latex import Latex, summary_tex
from xaikit.report.numbers.tables import summary_table
results = aggregate(drawn)
table = summary_table(results, measures(**{f"q{q}": "higher" for q in range(20)}))
columns = table.columns
paired_differences(results, "m0", columns[0]), pareto(results, columns[0]), rank_matrix(results, columns)
summary_csv({("d", "m"): table}), summary_tex({("d", "m"): table}, Latex())
assert not {"torch", "scipy"} & set(sys.modules)
print(time.process_time() - begin)
"""
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 5


def listed(folder: Path, files: dict) -> None:
    entry = {"dataset": "drawn", "model": "net", "image": "000.png", "files": files}
    (folder / "pictures.json").write_text(json.dumps({"pictures": [entry]}), encoding="utf-8")


@pytest.mark.parametrize(
    "file", ["../secret.png", "pictures/../../secret.png", "ABSOLUTE", "link.png", "far/secret.png"]
)
def test_pictures_outside_the_folder_are_refused(tmp_path, file):
    """A folder that was received may name any file of its reader; none of them may enter the page."""
    folder = tmp_path / "received"
    folder.mkdir()
    write(folder, "a.parquet", rows())
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "far").symlink_to(tmp_path, target_is_directory=True)
    listed(folder, {"input": str(tmp_path / "secret.png") if file == "ABSOLUTE" else file})
    with pytest.raises(BadInput, match=r"pictures\.json: expected PNG files inside the folder"):
        listed_pictures(folder)


@pytest.mark.parametrize("file", ["a.eps", "a.svg", "a", "a.png.ps", "a.PNG"])
def test_pictures_of_other_kinds_are_refused(tmp_path, file):
    write(tmp_path, "a.parquet", rows())
    (tmp_path / file).write_bytes(b"")
    listed(tmp_path, {"input": file})
    with pytest.raises(BadInput, match="expected PNG files"):
        listed_pictures(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"pictures": 3},
        {"pictures": [3]},
        {"pictures": [{}]},
        {"pictures": [{"dataset": 1, "model": "net", "image": "a", "files": {}}]},
        {"pictures": [{"dataset": "d", "model": "net", "image": "a", "files": ["a"]}]},
        {"pictures": [{"dataset": "d", "model": "net", "image": "a", "files": {"input": None}}]},
    ],
)
def test_a_list_of_pictures_of_another_form_is_one_line(tmp_path, content):
    write(tmp_path, "a.parquet", rows())
    (tmp_path / "pictures.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BadInput, match=r"pictures\.json: expected the pictures of a report"):
        listed_pictures(tmp_path)


@pytest.mark.parametrize("kind", ["eps", "jpeg", "bomb", "text", "truncated"])
def test_a_picture_is_a_png_whatever_its_name_says(tmp_path, kind):
    from PIL import Image

    from xaikit.report.page import gallery

    path = tmp_path / "a.png"
    if kind == "eps":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(run) =\n")
    elif kind == "jpeg":
        Image.new("RGB", (8, 8)).save(path, format="JPEG")
    elif kind == "bomb":
        Image.new("1", (6000, 6000)).save(path, format="PNG")
    elif kind == "truncated":
        Image.effect_noise((64, 64), 90).save(path, format="PNG")
        path.write_bytes(path.read_bytes()[:900])
    else:
        path.write_text("no picture", encoding="utf-8")
    with pytest.warns(XaikitWarning, match=r"a\.png: expected a PNG"):
        assert gallery._image(path) is None


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2+3", "@SUM(A1)"])
def test_no_text_is_a_formula_in_a_spreadsheet(tmp_path, name):
    hostile = [row | {"model": name, "dataset": name} for row in rows()]
    write_summaries(tmp_path, hostile)
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert {line["model"] for line in lines} == {line["dataset"] for line in lines} == {f"'{name}"}
    numbers = [text for line in lines for key, text in line.items() if key.endswith(("_low", "_high")) and text]
    assert len(numbers) > 10
    assert all(float(text) == float(text) for text in numbers), "numbers stay numbers, also negative ones"


def test_a_text_with_line_ends_stays_in_its_cell(tmp_path):
    write_summaries(tmp_path, [row | {"model": "a\r=1\nb,c\t"} for row in rows()])
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as stream:
        assert {line["model"] for line in csv.DictReader(stream)} == {"a\\r=1\\nb,c\\t"}
