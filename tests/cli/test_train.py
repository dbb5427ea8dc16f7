"""`xaikit train`: from a recipe and from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, draw

RECIPE = 'arch = "texture-cnn"\ndata = "synthetic"\nimages = 60\nepochs = 1\nbatch_size = 30\n'


@pytest.fixture(autouse=True)
def drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No drawings beside the cards, as they take longer than these trainings."""
    monkeypatch.setattr("xaikit.training.card.draw", lambda *content: None)


def test_a_recipe_is_trained_beside_itself(run: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    done = run("train", recipe)
    assert (done.code, done.err) == (0, "")
    assert "accuracy" in done.out
    assert {"weights.safetensors", "metrics.json", "card.md"} <= {path.name for path in tmp_path.iterdir()}
    photo = draw(tmp_path / "photo.png")
    assert run("explain", photo, "--model", tmp_path, "-o", tmp_path / "out").code == 0


def test_a_folder_of_classes_is_trained(run: Command, tmp_path: Path) -> None:
    for number in range(12):
        draw(tmp_path / "data" / ("cat" if number % 2 else "dog") / f"{number}.png", number, side=32)
    options = ["--data", tmp_path / "data", "--arch", "lenet5", "-o", tmp_path / "net", "--epochs", "1"]
    assert run("train", *options).code == 0
    done = run("evaluate", "--model", tmp_path / "net", "--data", tmp_path / "data")
    assert (done.code, done.err) == (0, "")
    assert "12 images of" in done.out
    assert "recall (sensitivity)" in done.out
    photo = draw(tmp_path / "photo.png", side=32)
    done = run("explain", photo, "--model", tmp_path / "net", "--target", "cat", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    (tmp_path / "data" / "cat" / "text.jpg").write_text("no picture", encoding="utf-8")
    assert "this run of 1 epochs is finished and left as it is; more epochs extend it" in run("train", *options).err
    done = run("train", *options, "--overwrite")
    assert done.code == 1
    assert done.line.startswith("xaikit: left out of the training: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "RECIPE.toml"),
        (["--data", "nowhere", "--arch", "lenet5", "-o", "net"], "nowhere"),
        (["--data", ".", "--arch", "lenet55", "-o", "net"], "lenet5"),
        (["--data", ".", "--arch", "lenet5"], "-o"),
        (["--data", "."], "--arch"),
        (["missing.toml"], "missing.toml"),
        (["recipe.toml", "--arch", "lenet5"], "both"),
        (["recipe.toml", "--epochs", "2"], "-o"),
        (["recipe.toml", "--weights", "net", "--from-scratch"], "both"),
        (["recipe.toml", "--lr", "0", "-o", "net"], "learning_rate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_requests(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    done = run("train", *arguments)
    assert done.code == 2
    assert expected in done.line
