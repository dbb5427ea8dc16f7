"""`xaikit demo` from the command to the report, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.report.rows import aggregate
from xaikit.benchmark.suite import Suite
from xaikit.foundation.files import package_data
from xaikit.report.numbers.read import read_benchmark

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo") / "a folder"
    done = subprocess.run(
        [sys.executable, "-m", "xaikit", "demo", "-o", str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


@pytest.mark.slow
def test_everything_is_written(output):
    folder, _ = output
    suite = Suite.read(package_data("suites/demo.toml"))
    count, methods = suite.data.count, [entry.title for entry in suite.all_methods]
    assert len(list((folder / "panels").glob("*.png"))) == count
    assert len(list((folder / "overlays").glob("*.png"))) == count * len(methods)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert [record["method"] for record in results["records"]] == methods * count
    rows = read_benchmark(folder).rows
    assert Counter(row["method"] for row in rows) == dict.fromkeys([*methods, "oracle", "anti-oracle"], count)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('<tr class="image">') == 11, "six are drawn by the seed, five stand at quantiles"
    assert all(f'alt="{method}, ' in page for method in ("input", "evidence", "grad-cam", "oracle"))
    assert all(f'data-method="{method}"' in page for method in methods)
    assert "a folder" in read_benchmark(folder).run["command"]


@pytest.mark.slow
def test_the_table_and_the_path_are_printed(output):
    folder, printed = output
    assert "…" not in printed
    assert "KeepAUC" in printed
    assert all(entry.name in printed for entry in Suite.read(package_data("suites/demo.toml")).methods)
    assert str(folder / "report.html") in printed.replace("\n", "")


@pytest.mark.slow
def test_methods_beat_controls_where_the_evidence_is_known(output):
    folder, _ = output
    results = {r.method: r for r in aggregate(read_benchmark(folder).rows)}
    binary = {name: result.scalars["keep_auc_binary"] for name, result in results.items()}
    for name in ("cam", "grad-cam", "hires-cam", "libra-cam", "occlusion"):
        assert binary[name] > binary["center"] > binary["random"]
        assert results[name].scalars["pointing"] > 0.9
    assert results["ones"].scalars["apd"] <= min(result.scalars["apd"] for result in results.values())
    assert results["libra-cam"].scalars["ir"] > results["grad-cam"].scalars["ir"]
