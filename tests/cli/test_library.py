"""`xaikit library`, and `xaikit explain --library` with what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from xaikit.images.reading import save_png
from xaikit.images.synthetic import draw


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Drawn images in one folder a class."""
    scene = draw(18, seed=7)
    from xaikit.api import load

    labels = load("texture-cnn").labels
    assert labels is not None
    for number, (pixels, label) in enumerate(zip(scene.pixels, scene.labels.tolist(), strict=True)):
        folder = tmp_path / "classes" / labels[label]
        folder.mkdir(parents=True, exist_ok=True)
        save_png(folder / f"{number}.png", (pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    return tmp_path / "classes"


def test_a_library_is_built_and_used(run: Command, album: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "lib.safetensors"
    done = run("library", "--model", "texture-cnn", "--data", album, "-o", file, "--references", "4")
    assert (done.code, done.err) == (0, "")
    assert "4 references" in done.out
    photo = next(album.rglob("*.png"))
    options = ["--model", "texture-cnn", "--method", "libra-cam", "--method", "grad-cam", "-o", tmp_path / "out"]
    assert run("explain", photo, *options, "--library", file).code == 0
    records = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["records"]
    assert [one["flags"] for one in records] == [[], []]
    done = run("explain", photo, *options, "--library", file, "--layer", "features.8")
    assert done.code == 2
    assert "layer" in done.line


def test_what_was_found_is_told(run: Command, album: Path, tmp_path: Path) -> None:
    file = tmp_path / "lib.safetensors"
    done = run("library", "--model", "texture-cnn", "--data", album, "-o", file)
    assert done.out.startswith("15 references for each of 6 classes")
    for folder in sorted(album.iterdir())[1:]:
        for picture in folder.iterdir():
            picture.write_bytes(next(sorted(album.iterdir())[0].iterdir()).read_bytes())
    done = run("library", "--model", "texture-cnn", "--data", album, "-o", file)
    assert done.code == 0
    assert done.out.startswith("0 to 3 references")
    assert "checkers: expected references" in done.line


def test_folders_that_are_no_classes(run: Command, tmp_path: Path, photo: Path) -> None:
    done = run("library", "--model", "texture-cnn", "--data", tmp_path / "none", "-o", tmp_path / "lib.safetensors")
    assert done.code == 2
    assert "none" in done.line


def test_a_library_cannot_be_written_into_a_file(run: Command, album: Path, photo: Path) -> None:
    done = run("library", "--model", "texture-cnn", "--data", album, "-o", photo / "lib.safetensors")
    assert done.code == 2
    assert "photo.png" in done.line


def test_pictures_that_cannot_be_read_are_named_and_left_out(run: Command, album: Path, tmp_path: Path) -> None:
    bad = next(album.rglob("*.png"))
    bad.write_text("no picture", encoding="utf-8")
    file = tmp_path / "lib.safetensors"
    done = run("library", "--model", "texture-cnn", "--data", album, "-o", file, "--references", "2")
    assert done.code == 1
    assert done.line.startswith(f"xaikit: left out of the library: {bad}: expected a picture")
    assert file.is_file()
