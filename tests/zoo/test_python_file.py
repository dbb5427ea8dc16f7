"""Networks that a function in a file builds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import xaikit
from xaikit.benchmark.suite import Suite
from xaikit.cli.app import main
from xaikit.foundation.errors import BadInput, UnknownName

SOURCE = """
import torch
import xaikit
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def whole():
    return xaikit.Classifier(build(), 0.5, size=16, labels=["x", "y", "z"])

def needing(argument):
    return build()

def number():
    return 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "mine.py"


def test_a_module_and_a_classifier(file: Path, tmp_path: Path) -> None:
    module = xaikit.load(f"{file}:build", mean=0.5, labels=["x", "y", "z"], size=16, device="cpu")
    whole = xaikit.load(f"{file}:whole", device="cpu")
    assert (module.name, module.classes, whole.labels, whole.size) == ("mine.py:build", 3, ["x", "y", "z"], (16, 16))
    pixels = torch.rand(2, 3, 16, 16)
    assert torch.allclose(module(pixels), whole(pixels))
    state = {name: 2 * value for name, value in module.module.state_dict().items()}
    torch.save(state, tmp_path / "double.pth")
    doubled = xaikit.load(f"{file}:build", tmp_path / "double.pth", mean=0.5, device="cpu")
    assert torch.equal(doubled.module[0].weight, 2 * module.module[0].weight)
    assert doubled.weights == "double.pth"


@pytest.mark.parametrize(
    ("function", "options", "kind", "message"),
    [
        ("bild", {}, UnknownName, "unknown function 'bild'; did you mean build"),
        ("needing", {}, BadInput, r"mine\.py:needing to return a network, got TypeError: .*call it without arguments"),
        ("number", {}, BadInput, "expected a module or a Classifier from .*, got int"),
        ("whole", {"size": 8}, BadInput, "size: expected none, .* returns a Classifier; set it there"),
        ("whole", {"weights": "a.pth"}, BadInput, "weights: expected none"),
        ("build", {"weights": "missing.pth"}, BadInput, r"missing\.pth: no such file"),
    ],
)
def test_what_a_file_does_not_give_is_one_line(
    file: Path, function: str, options: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        xaikit.load(f"{file}:{function}", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0", encoding="utf-8")
    for name, message in (("none.py:build", "expected a Python file"), ("broken.py:build", "got ZeroDivisionError")):
        with pytest.raises(BadInput, match=message):
            xaikit.load(str(tmp_path / name))


@pytest.mark.slow
def test_on_the_command_line_and_in_a_suite(file: Path, tmp_path: Path) -> None:
    arguments = ["--model", f"{file}:whole", "--method", "saliency", "-o", str(tmp_path / "out")]
    assert main(["explain", "demos/pictures", *arguments]) == 0
    entries = [f"{file}:whole", f"{file}:build"]
    suite = Suite.of(models=entries, data={"kind": "synthetic"}, methods=["saliency"])
    assert [entry.title for entry in suite.models] == ["mine.py:whole", "mine.py:build"]
