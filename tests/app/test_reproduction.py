"""The lines and the command that the page hands out make the maps that it shows."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xaikit.app.cache import Cache
from xaikit.app.models import Models, given
from xaikit.app.pictures import Shelf, drawn_pictures
from xaikit.app.reproduction import command, python_lines
from xaikit.app.session import Choice, Session
from xaikit.app.tasks import CurveTask
from xaikit.cli.app import main

pytestmark = pytest.mark.slow


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = Models(given(["texture-cnn"], [], "cpu"))
    (tmp_path / "cache").mkdir()
    shelf = Shelf(drawn_pictures(tmp_path, 2), tmp_path)
    choice = Choice(shelf.pictures()[1].id, tuple(models.names), methods=("grad-cam", "smooth-grad"))
    session = Session(models, shelf, Cache(tmp_path / "cache"), choice)
    assert session.settle(60)
    yield session
    session.close()


@pytest.mark.parametrize("choice", [{"target": 2}, {"target": 1, "against": 0, "mask": "binary", "seed": 3}], ids=str)
def test_lines_and_command_make_the_same_maps(session, choice):
    seen = session.look("texture-cnn")
    layer = next(name for name in seen.grids if name != seen.layer)
    session.choose(layer=layer, **choice)
    assert session.settle(60)
    curves = [task for task in session.wanted() if isinstance(task, CurveTask)]
    picture, offer = session.shelf.get(session.choice.picture).name, session.models.offer("texture-cnn")

    names: dict[str, Any] = {}
    exec(python_lines(picture, [(offer, curves)]), names)  # what a user does with them
    words = shlex.split(command(picture, offer, [task.map for task in curves]))
    assert main([*words[1:], "-o", "out"]) == 0
    results = json.loads(Path("out/results.json").read_text(encoding="utf-8"))
    records = {record["method"]: record for record in results["records"]}
    values = np.load("out/attributions.npz")

    for task in curves:
        shown, curve = session.result(task.map), session.result(task)
        torch.testing.assert_close(names["maps"][task.method].values, shown.values)
        torch.testing.assert_close(names["curves"][task.method].o, curve.o)
        record = records[task.method]
        np.testing.assert_allclose(values[record["outputs"]["values"]], shown.values[0], rtol=1e-4, atol=1e-5)
        assert record["target"] == task.map.target


def test_a_classifier_from_python_has_no_command(session):
    offer = session.models.offer("texture-cnn")
    from_python = type(offer)(offer.name, offer.load)
    assert command("a.png", from_python, session.maps("texture-cnn")) is None
    assert "as it was given to xaikit.app" in python_lines("a.png", [(from_python, [])])
