"""`xaikit benchmark` and `xaikit report`, from the command to the files."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from xaikit.benchmark import pictures as report_pictures
from xaikit.cli.app import main
from xaikit.images.reading import save_png
from xaikit.images.synthetic import CLASSES, draw

MEASURES = ["--measure", "api", "--measure", "srg"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Six drawn images, one a class, in class folders."""
    folder = tmp_path_factory.mktemp("pictures")
    scene = draw(6, 11)
    for picture, label in zip((scene.pixels * 255).round().byte(), scene.labels.tolist(), strict=True):
        place = folder / CLASSES[label]
        place.mkdir()
        save_png(place / "one.png", picture.permute(1, 2, 0).numpy())
    return folder


def benchmark(pictures: Path, output: Path, *more: str) -> int:
    data = ["--data", str(pictures), "--method", "grad-cam", "--method", "saliency"]
    return main(["benchmark", "--model", "texture-cnn", "--device", "cpu", *data, *MEASURES, "-o", str(output), *more])


def read(folder: Path) -> list[dict]:
    return [
        row for file in sorted((folder / "rows").glob("*.parquet")) for row in pq.ParquetFile(file).read().to_pylist()
    ]


@pytest.fixture(scope="module")
def output(pictures, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "a folder"
    assert benchmark(pictures, folder) == 0
    return folder


def test_rows_and_report_are_written(output):
    rows = read(output)
    assert len(rows) == 6 * (2 + 6)
    assert {row["image_id"] for row in rows} == {f"{name}/one.png" for name in CLASSES}
    assert all(row["label_name"] == row["image_id"].split("/")[0] for row in rows)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert all(f'data-method="{name}"' in page for name in ("grad-cam", "saliency", "center", "ones"))
    assert ">srg" in page
    assert (output / "figures").is_dir()
    assert not list(output.glob("*.parquet"))


def test_the_summaries_hold_the_means(output):
    with (output / "summary.csv").open(encoding="utf-8", newline="") as stream:
        lines = {line["method"]: line for line in csv.DictReader(stream)}
    own = [row for row in read(output) if row["method"] == "grad-cam"]
    assert float(lines["grad-cam"]["measure.srg"]) == pytest.approx(sum(row["measure.srg"] for row in own) / 6)
    assert lines["grad-cam"]["images"] == "6"
    table = (output / "summary.tex").read_text(encoding="utf-8")
    assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == 1
    assert r"\textbf{" in table


def test_the_report_shows_images_with_their_maps(output):
    shown = json.loads((output / "pictures.json").read_text(encoding="utf-8"))["pictures"]
    assert len(shown) == 6
    for one in shown:
        assert set(one["files"]) >= {"input", "grad-cam", "saliency", "random"}
        assert all((output / file).is_file() for name, file in one["files"].items() if name != "evidence")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count('<tr class="image">') == 6
    first = 3 * (1 + 2)  # on the first screen: the input and the maps of both methods
    assert page.count("data:image/webp") == 6 * (1 + 2 + 6) + first


def test_pictures_that_are_there_are_not_drawn_again(pictures, output, monkeypatch):
    monkeypatch.setattr(report_pictures, "explained", lambda *_: pytest.fail("explained again"))
    before = {file: file.stat().st_mtime_ns for file in (output / "pictures").iterdir()}
    assert benchmark(pictures, output) == 0
    assert before == {file: file.stat().st_mtime_ns for file in (output / "pictures").iterdir()}


def test_a_report_without_pictures(pictures, tmp_path):
    assert benchmark(pictures, tmp_path, "--no-pictures", "--limit", "1") == 0
    assert not (tmp_path / "pictures.json").exists()
    assert "data:image" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_run_again_does_nothing_and_says_so(pictures, output, capsys):
    before = {file: file.stat().st_mtime_ns for file in (output / "rows").iterdir()}
    assert benchmark(pictures, output) == 0
    assert "all 48 units are done" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in (output / "rows").iterdir()} == before


@pytest.mark.slow
def test_the_report_is_rebuilt_from_rows_without_torch(output, tmp_path):
    (tmp_path / "rows").mkdir()
    for file in (output / "rows").iterdir():
        (tmp_path / "rows" / file.name).write_bytes(file.read_bytes())
    program = (
        "import sys\n"
        "from xaikit.cli.app import main\n"
        "assert main(['report', sys.argv[1]]) == 0\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(tmp_path)], check=True, timeout=60)
    assert {"report.html", "summary.csv", "summary.tex"} <= {file.name for file in tmp_path.iterdir()}


@pytest.mark.slow
def test_limit_and_shards(pictures, tmp_path, capsys):
    two = tmp_path / "two"
    for name in CLASSES[:2]:
        shutil.copytree(pictures / name, two / name)
    assert benchmark(two, tmp_path / "few", "--limit", "1", "--no-pictures") == 0
    assert len(read(tmp_path / "few")) == 8
    assert benchmark(two, tmp_path / "half", "--shard", "0/2", "--no-pictures") == 0
    assert benchmark(two, tmp_path / "half", "--shard", "1/2", "--no-pictures") == 0
    assert len({row["unit_id"] for row in read(tmp_path / "half")}) == 2 * 8
    capsys.readouterr()
    assert benchmark(two, tmp_path / "none", "--shard", "5/6") == 0
    assert "no image is in this shard" in capsys.readouterr().out


@pytest.mark.slow
def test_one_bad_picture_is_exit_1_and_all_bad_exit_2(pictures, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "good.png").write_bytes((pictures / CLASSES[0] / "one.png").read_bytes())
    (mixed / "bad.png").write_text("no picture", encoding="utf-8")
    assert benchmark(mixed, tmp_path / "out") == 1
    assert "bad.png: expected a picture" in capsys.readouterr().err
    (mixed / "good.png").write_text("neither", encoding="utf-8")
    assert benchmark(mixed, tmp_path / "none") == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["benchmark"], "expected SUITE.toml, or --model M --data DIR --method NAME"),
        (["benchmark", "none.toml"], "expected a suite file, got none"),
        (["benchmark", "none.toml", "--model", "x"], "got both"),
        (["benchmark", "--model", "texture-cnn", "--data", "nowhere", "--method", "grad-cam"], "got no folder"),
        (["benchmark", "--model", "texture-cnm", "--data", ".", "--method", "ones"], "did you mean texture-cnn"),
        (["benchmark", "--model", "texture-cnn", "--data", ".", "--method", "gard-cam"], "did you mean grad-cam"),
        (["benchmark", "--model", "m", "--data", ".", "--method", "ones", "--shard", "x"], "expected I/N, got 'x'"),
        (
            ["benchmark", "--model", "a", "--model", "b", "--layer", "c", "--data", ".", "--method", "ones"],
            "expected one --model with them, got several",
        ),
        (["report", "."], "expected rows/.*parquet of a benchmark, got none"),
        (["report", ".", "--columns", "apd,"], "columns: expected names such as apd,ms, got 'apd', ''"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("one.png").write_bytes(b"")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
