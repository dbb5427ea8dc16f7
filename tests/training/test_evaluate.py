"""Evaluation of a classifier on folders: figures follow from its answers, folders that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import xaikit
from xaikit.foundation.errors import BadInput, LeftOut, XaikitWarning


class Brightest(nn.Module):
    """Its logits are ten times the means of the left, middle and right third."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([part.mean((1, 2, 3)) for part in inputs.chunk(3, 3)], 1) * self.scale


def classifier(labels: list[str] | None = None) -> xaikit.Classifier:
    return xaikit.Classifier(Brightest(), 0.0, 1.0, 12, labels)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures of left, two bright there and one in the middle, and of right, one there and one in the middle."""
    for name, thirds in (("left", (0, 0, 1)), ("right", (2, 1))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number, third in enumerate(thirds):
            grey = np.full((12, 12, 3), 20, np.uint8)
            grey[:, 4 * third : 4 * third + 4] = 200
            Image.fromarray(grey).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


def test_the_figures_are_those_of_the_answers_and_other_classes_are_errors(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xaikit.training.card.draw", lambda *content: None)  # tried in test_train.py
    metrics = xaikit.evaluate(classifier(["Left", "middle", "right"]), data, tmp_path / "out", batch_size=2)
    assert metrics["confusion"] == [[2, 0, 1], [0, 1, 1]]
    assert metrics["accuracy"] == 3 / 5
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics["per_class"]["left"]["specificity"] == 1
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert "| left | 1.0000 | 0.6667 | 1.0000 | 0.8000 |" in (tmp_path / "out" / "card.md").read_text()


def test_of_splits_the_test_is_evaluated(data: Path) -> None:
    data.rename(data.parent / "testing")
    (data / "valid" / "left").mkdir(parents=True)
    Image.new("RGB", (12, 12)).save(data / "valid" / "left" / "0.png")
    own = classifier(["left", "middle", "right"])
    assert xaikit.evaluate(own, data)["images"] == 1
    (data.parent / "testing").rename(data / "testing")
    assert xaikit.evaluate(own, data)["images"] == 5


def test_folders_that_do_not_fit_are_refused_or_warned_of(data: Path) -> None:
    with pytest.raises(BadInput, match=r"named after the model's labels, such as 'a', got 'left'; rename it"):
        xaikit.evaluate(classifier(["a", "b", "c"]), data)
    with pytest.raises(BadInput, match="or 3 of them in its order, got 2"):
        xaikit.evaluate(classifier(), data)
    (data / "mean").mkdir()
    Image.new("RGB", (12, 12)).save(data / "mean" / "0.png")
    with pytest.warns(XaikitWarning, match="has no labels; its classes are taken to be the sorted folders"):
        assert list(xaikit.evaluate(classifier(), data)["per_class"]) == ["left", "mean", "right"]
    (data / "mean" / "0.png").write_text("no picture")
    with pytest.warns(LeftOut, match="left out of the evaluation"):
        assert xaikit.evaluate(classifier(["left", "mean", "right"]), data)["images"] == 5
    with pytest.raises(BadInput, match="got a regression"):
        xaikit.evaluate(xaikit.Classifier(Brightest(), 0.0, 1.0, 12, output="regression"), data)


def test_one_output_is_two_classes(data: Path) -> None:
    class Right(Brightest):
        def forward(self, inputs: Tensor) -> Tensor:
            logits = super().forward(inputs)
            return logits[:, 2:] - logits[:, :1]

    own = xaikit.Classifier(Right(), 0.0, 1.0, 12, ["left", "right"], output="binary")
    metrics = xaikit.evaluate(own, data)
    assert metrics["per_class"]["left"]["recall"] == 1
    assert metrics["per_class"]["right"]["recall"] == 1 / 2
