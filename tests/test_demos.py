"""The scripts that a user would copy: short, and they run as they stand."""

from __future__ import annotations

import csv
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import xaikit

DEMOS = Path(__file__).resolve().parents[1] / "demos"
SCRIPTS = sorted(DEMOS.glob("*.py"))
LESSONS = sorted((DEMOS / "teaching").glob("*.ipynb"))


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


def executed(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a notebook with its outputs, run in a kernel of its own, whose settings stay in a folder of the test."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    notebook = nbformat.read(file, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(DEMOS)}}).execute()
    return notebook


@pytest.mark.slow
def test_the_notebook_shows_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(DEMOS / "explain.ipynb", tmp_path, monkeypatch)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(list(filter(None, cells[0].source.splitlines()))) == 4  # import, load, read, attribute and plot
    for cell in cells:
        assert not [output for output in cell.outputs if output.output_type == "stream"], cell.source
        data = cell.outputs[-1].data
        if "plot" in cell.source:
            with Image.open(BytesIO(b64decode(data["image/png"]))) as picture:
                assert np.asarray(picture.convert("L")).std() > 20, cell.source
        elif cell.source.startswith("xaikit.attribute"):
            assert "image/png" in data or 'src="data:image/png' in data["text/html"]
            assert data["text/plain"].startswith("Attribution(texture-cnn; occlusion; 1 image: checkers ")


@pytest.mark.slow
@pytest.mark.parametrize("file", LESSONS, ids=lambda file: file.stem)
def test_lessons_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own assertions compare what is computed by hand with what xaikit returns."""
    notebook = executed(file, tmp_path, monkeypatch)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) >= 3
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]


@pytest.mark.slow
def test_one_image(tmp_path: Path) -> None:
    printed = run("one_image.py", tmp_path / "one")
    assert printed.startswith("dots.png: dots, ")
    assert (tmp_path / "one" / "overlay.png").is_file()
    assert (tmp_path / "one" / "figure.png").is_file()
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
