"""Suites are checked when they are read, and the shipped one can be run."""

from __future__ import annotations

import pytest
from torch import nn

from xaikit.bench.suite import Suite
from xaikit.core.classifier import Classifier
from xaikit.core.errors import BadInput, UnknownName
from xaikit.core.files import shipped
from xaikit.core.method import METHODS

GOOD = """
model = "texture-cnn"
methods = [{ name = "grad-cam" }, { name = "occlusion", params = { window = 3 } }]
images = { data = "synthetic", count = 2 }
"""


@pytest.fixture
def classifier():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return Classifier(network, size=12)


def read(tmp_path, text: str) -> Suite:
    (tmp_path / "suite.toml").write_text(text, encoding="utf-8")
    return Suite.read(tmp_path / "suite.toml")


def test_methods_are_bound_with_their_parameters(tmp_path, classifier):
    grad_cam, occlusion = read(tmp_path, GOOD).bind(classifier)
    assert (grad_cam.name, occlusion.name) == ("grad-cam", "occlusion")
    assert occlusion.params["window"] == 3
    assert occlusion.classifier is classifier


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model =", "modle ="), r"unknown key 'modle'; did you mean model|expected the key 'model'"),
        (("count = 2", "count = 0"), r"images.count: input should be greater than or equal to 1, got 0"),
        (("count = 2", "coutn = 2"), r"'images.coutn'|'images.count'"),
        (("params =", "parms ="), r"unknown key 'methods.1.parms'; did you mean params"),
        (("synthetic", "photographs"), r"images.data: .*got 'photographs'"),
        (("]\n", "\n"), r"expected TOML"),
    ],
)
def test_a_wrong_suite_is_one_line(tmp_path, change, message):
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path, GOOD.replace(*change))
    assert "\n" not in str(caught.value)
    assert "suite.toml" in str(caught.value)


def test_a_missing_suite_and_an_unknown_method(tmp_path, classifier):
    with pytest.raises(BadInput, match="expected a suite file, got none"):
        Suite.read(tmp_path / "none.toml")
    with pytest.raises(UnknownName, match="did you mean grad-cam"):
        read(tmp_path, GOOD.replace("grad-cam", "gard-cam")).bind(classifier)
    with pytest.raises(BadInput, match="did you mean window"):
        read(tmp_path, GOOD.replace("window", "windw")).bind(classifier)


def test_the_demo_suite_fits_its_minute(classifier):
    suite = Suite.read(shipped("suites/demo.toml"))
    names = [entry.name for entry in suite.methods]
    assert len(set(names)) == len(names) <= 12
    assert set(names) <= set(METHODS.names())
    families = {METHODS.get(name).family for name in names}
    assert families >= {"activation", "gradient", "perturbation", "control"}
    for entry in suite.methods:
        assert set(entry.params) <= set(METHODS.get(entry.name).parameter_names())
    assert suite.library is not None
    assert suite.library.seed != suite.images.seed
    forwards = sum(METHODS.get(e.name).build(classifier, **e.params).cost((64, 64)).forwards for e in suite.methods)
    assert forwards * suite.images.count < 10_000
