"""The scripts that a user would copy: short, and they run as they stand."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

import xaikit

DEMOS = Path(__file__).resolve().parents[1] / "demos"
SCRIPTS = sorted(DEMOS.glob("*.py"))


def run(name: str, folder: Path) -> str:
    """Run a demo, warnings being errors, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(DEMOS / name), str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_demos_are_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
def test_one_image(tmp_path: Path) -> None:
    printed = run("one_image.py", tmp_path / "one")
    assert printed.startswith("dots.png: dots, ")
    assert (tmp_path / "one" / "overlay.png").is_file()
    found = xaikit.Attribution.load(tmp_path / "one" / "libra-cam.safetensors")
    assert found.target_names == ("dots",)


@pytest.mark.slow
def test_your_own_model(tmp_path: Path) -> None:
    printed = run("your_own_model.py", tmp_path / "own")
    right, _, of, *_ = printed.split()
    assert int(right) >= 0.9 * int(of)
    assert (tmp_path / "own" / "panel.png").is_file()


@pytest.mark.slow
def test_compare_methods(tmp_path: Path) -> None:
    run("compare_methods.py", tmp_path / "compared")
    with (tmp_path / "compared" / "comparison.csv").open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    on_object = {name: float(row["on object"]) for name, row in rows.items()}
    assert min(on_object["grad-cam"], on_object["libra-cam"]) > on_object["center"] > on_object["ones"]
    assert float(rows["ones"]["APD (low)"]) == 0
