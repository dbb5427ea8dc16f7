"""`xaikit concepts`."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Command, draw

pytestmark = pytest.mark.slow


def test_a_folder_gives_one_figure(run: Command, tmp_path: Path) -> None:
    for seed in range(3):
        draw(tmp_path / "photos" / f"{seed}.png", seed)
    figure = tmp_path / "out" / "concepts.png"
    done = run("concepts", tmp_path / "photos", "--model", "texture-cnn", "--count", "2", "-o", figure)
    assert (done.code, done.err) == (0, "")
    first, second, rest = done.out.splitlines()
    assert first.startswith("concept 1: ")
    assert second.startswith("concept 2: ")
    assert rest.endswith(f"are in none; the figure is {figure}")
    with Image.open(figure) as image:
        assert min(image.size) > 224


def test_what_cannot_be_done_is_one_line(run: Command, tmp_path: Path) -> None:
    photo = draw(tmp_path / "one.png")
    done = run("concepts", photo, "--model", "texture-cnn", "--count", "999", "-o", tmp_path / "concepts.png")
    assert done.code == 2
    assert "count: expected 1 to " in done.line
    assert run("concepts", tmp_path / "none", "--model", "texture-cnn", "-o", tmp_path / "c.png").code == 2
