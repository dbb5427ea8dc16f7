"""Suites are checked when they are read, and the shipped ones are right."""

from __future__ import annotations

from pathlib import Path

import pytest

from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import package_data
from xaikit.methods.base import METHODS

GOOD = """
models = ["texture-cnn"]
methods = ["grad-cam", { name = "occlusion", params = { window = 3 } }]
measures = ["api", { name = "keep-auc", params = { mask = "binary" }, label = "insertion" }]
data = { kind = "synthetic", count = 2 }
"""
SHIPPED = sorted(path.name for path in package_data("suites").glob("*.toml"))


def read(folder: Path, text: str) -> Suite:
    (folder / "suite.toml").write_text(text, encoding="utf-8")
    return Suite.read(folder / "suite.toml")


def test_bare_names_and_entries_with_parameters_are_the_same(tmp_path):
    suite = read(tmp_path, GOOD)
    assert [(one.name, one.params) for one in suite.methods] == [("grad-cam", {}), ("occlusion", {"window": 3})]
    assert [one.title for one in suite.measures] == ["api", "insertion"]
    assert suite.measures[1].build().params["mask"] == "binary"
    assert suite.seeds == (0,)


def test_a_family_stands_for_its_methods_unless_they_are_named(tmp_path):
    text = GOOD.replace('"grad-cam"', '{ name = "libra-cam", params = { references = 3 } }, { family = "activation" }')
    suite = read(tmp_path, text)
    titles = [one.title for one in suite.methods]
    assert sorted(titles) == sorted([*METHODS.names(lambda entry: entry.family == "activation"), "occlusion"])
    assert suite.methods[0].params == {"references": 3}
    everything = read(tmp_path, GOOD.replace('"grad-cam"', '{ family = "all", budget = 9 }'))
    but_attention = METHODS.names(lambda entry: entry.family != "attention")
    assert {one.title for one in everything.all_methods} == set(but_attention)
    assert {one.budget for one in everything.all_methods} == {9.0, None}


def test_every_control_stands_beside_the_methods_unless_told_otherwise(tmp_path):
    controls = METHODS.names(lambda entry: entry.family == "control")
    assert [one.title for one in read(tmp_path, GOOD).all_methods] == ["grad-cam", "occlusion", *controls]
    assert [one.title for one in read(tmp_path, GOOD + "controls = []\n").all_methods] == ["grad-cam", "occlusion"]
    listed = read(tmp_path, GOOD.replace('"grad-cam"', '"grad-cam", "ones"')).all_methods
    assert [one.title for one in listed].count("ones") == 1


def test_default_measures_explain_once(tmp_path):
    suite = read(tmp_path, GOOD.replace("measures", "# measures"))
    names = {one.title for one in suite.measures}
    assert {"api", "apd", "ir", "dr", "tie-rate", "mean-map", "keep-auc-soft", "keep-auc-binary"} <= names
    assert all("method" not in one.build().needs for one in suite.measures)


def test_none_can_be_written(tmp_path):
    text = GOOD.replace('"grad-cam"', '{ name = "libra-cam", label = "plain", params = { calibrate = "none" } }')
    (libra, _) = read(tmp_path, text).methods
    assert (libra.title, libra.params) == ("plain", {"calibrate": None})


def test_paths_are_looked_for_beside_the_file(tmp_path):
    data = 'data = { kind = "images", path = "pictures" }'
    suite = read(tmp_path, GOOD.replace('data = { kind = "synthetic", count = 2 }', data))
    assert suite.data.path == tmp_path / "pictures"
    assert suite.data.title == "pictures"
    assert suite.with_data(tmp_path / "others").data.path == tmp_path / "others"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("models =", "modles ="), r"expected the key 'models', got none|unknown key 'modles'; did you mean models"),
        (("count = 2", "count = 0"), r"data.count: input should be greater than or equal to 1, got 0"),
        (("count = 2", "coutn = 2"), r"unknown key 'data.coutn'; did you mean count"),
        (("params = { window", "parms = { window"), r"unknown key 'methods.1.parms'; did you mean params"),
        (("synthetic", "photographs"), r"data.kind: .*got 'photographs'"),
        (('kind = "synthetic"', 'kind = "images"'), r"data: expected a path with kind 'images'"),
        (("]\n", "\n"), r"expected TOML"),
        (("grad-cam", "gard-cam"), r"methods.0.name: unknown method 'gard-cam'; did you mean grad-cam"),
        (("texture-cnn", "texture-cnm"), r"models.0.name: unknown model 'texture-cnm'; did you mean texture-cnn"),
        (('"grad-cam"', '{ family = "gradients" }'), r"methods: family: .*'gradient'.* got 'gradients'"),
        (('"grad-cam"', '{ family = "all", budgt = 3 }'), r"methods: unknown key 'budgt'; did you mean budget"),
        (("window", "windw"), r"methods.1: unknown parameter of occlusion 'windw'; did you mean window"),
        (('"api"', '"apii"'), r"measures.0.name: unknown measure 'apii'; did you mean api"),
        (
            ('mask = "binary"', 'maks = "binary"'),
            r"measures.1: unknown parameter of keep-auc 'maks'; did you mean m",
        ),
        (('mask = "binary"', 'mask = "hard"'), r"measures.1: keep-auc: mask: expected soft or binary, got 'hard'"),
        (('"grad-cam"', '"occlusion"'), r"expected different methods, got 'occlusion' twice; give one a label"),
    ],
)
def test_a_wrong_suite_is_one_line(tmp_path, change, message):
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path, GOOD.replace(*change))
    assert "\n" not in str(caught.value)
    assert "suite.toml" in str(caught.value)


def test_a_missing_suite_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="expected a suite file, got none"):
        Suite.read(tmp_path / "none.toml")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_suites_can_be_read(name):
    suite = Suite.read(package_data(f"suites/{name}"))
    assert suite.methods
    assert suite.controls


def test_the_demo_suite_chooses_its_references_among_other_images():
    suite = Suite.read(package_data("suites/demo.toml"))
    assert suite.library is not None
    assert suite.library.data is not None
    assert suite.library.data.seed != suite.data.seed
    families = {METHODS.get(one.name).family for one in suite.all_methods}
    assert families >= {"activation", "gradient", "perturbation", "control"}
