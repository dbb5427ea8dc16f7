"""The command and the function that start the page: their refusals, and the export without a server."""

from __future__ import annotations

import json

import numpy as np
import pytest

import xaikit
from tests.app.conftest import network
from tests.cli.conftest import draw
from xaikit.app import start
from xaikit.app.models import given
from xaikit.app.tasks import LEVELS
from xaikit.cli.app import main
from xaikit.foundation.errors import BadInput, MissingExtra


@pytest.fixture
def photo(tmp_path):
    return draw(tmp_path / "photo.png", side=32)


@pytest.mark.slow
def test_without_the_extra_one_line_names_it(photo, monkeypatch, capsys):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'xaikit\[app\]'"):
        xaikit.app(network(0), photo)
    assert main(["app", "--data", str(photo), "--no-browser"]) == 2
    assert capsys.readouterr().err == "xaikit: nicegui is not installed; run: pip install 'xaikit[app]'\n"


def test_wrong_arguments_are_refused(photo, tmp_path):
    for wrong, words in (
        ({"data": tmp_path / "none"}, "nothing there"),
        ({"port": 70000}, "port"),
        ({"host": ""}, "host"),
        ({"methods": ["grad-kam"]}, "grad-cam"),
    ):
        with pytest.raises(xaikit.XaikitError, match=words):
            xaikit.app(network(0), **({"data": photo} | wrong))
    with pytest.raises(BadInput, match="Classifier"):
        xaikit.app(network(0).network, photo)


def test_models_and_weights_are_paired(tmp_path):
    names = [offer.name for offer in given(["resnet18", "lenet5-digits"], ["DEFAULT"], "cpu")]
    assert names == ["resnet18 · DEFAULT", "lenet5-digits"]
    assert [offer.name for offer in given(["resnet18"], ["a", "b"], "cpu")] == ["resnet18 · a", "resnet18 · b"]
    with pytest.raises(BadInput, match="at most one for each of 2 models"):
        given(["resnet18", "resnet50"], ["a", "b", "c"], "cpu")
    for name in ("one", "two", "unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").touch()
    for name in ("one", "two"):
        (tmp_path / name / "weights.safetensors").touch()
    offers = given([str(tmp_path)], [], "cpu")
    assert [offer.python for offer in offers] == ["xaikit.load('one')", "xaikit.load('two')"]


@pytest.mark.slow
def test_the_export_needs_no_server(photo, tmp_path):
    label = "</script><img src=x onerror=alert(1)>"
    classifier = network(0)
    classifier._labels = ["cat", label, "owl"]
    lines: list[str] = []
    page = tmp_path / "page.html"
    xaikit.app(classifier, [photo, photo.parent], export=page, methods=["grad-cam", "edges"], notice=lines.append)
    text = page.read_text(encoding="utf-8")
    content = json.loads(text.partition('id="content">')[2].partition("</script>")[0])
    assert label not in text
    assert str(tmp_path) not in text
    assert [picture["name"] for picture in content["pictures"]] == ["photo.png"]
    (column,) = content["pictures"][0]["columns"]
    assert label in [one["label"] for one in column["classes"]]
    for one in column["viewer"]["methods"]:
        attribution = xaikit.attribute(classifier, photo, method=one["method"])
        for mask, shown in one["curves"].items():
            curve = xaikit.keep_curve(classifier, photo, attribution, levels=LEVELS, mask=mask)
            np.testing.assert_allclose(shown["o"], curve.o[0], rtol=1e-5)
            np.testing.assert_allclose(shown["apd"], curve.drops()[0], rtol=1e-5)
        assert set(one["curves"]) == {"soft", "binary"}
    assert {one["method"] for one in column["tiles"]} == {"grad-cam", "random-grid", "edges"}
    assert not lines
