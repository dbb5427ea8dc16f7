"""`xaikit list` and `xaikit layers`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Command
from xaikit.foundation.flags import FLAGS
from xaikit.measures.base import MEASURES
from xaikit.methods.base import METHODS
from xaikit.run.cost import Cost


def test_methods_are_those_of_the_registry(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xaikit.cli.passes.passes", lambda kind: Cost(1))  # the test with --backends takes resnet50
    done = run("list", "methods", "--json")
    rows = json.loads(done.out)
    assert [row["name"] for row in rows] == METHODS.names()
    assert all(row["source"] and row["family"] and row["cost"] for row in rows)


def test_methods_are_grouped_by_family_with_whole_names(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list", "methods").out.splitlines()
    assert max(map(len, lines)) <= 80
    family, found = "", {}
    for line in lines[:-1]:
        if line and not line.startswith(" "):
            family = line
        elif line[2:3].strip():
            found[line.split()[0]] = family
    assert found == {name: METHODS.get(name).family for name in METHODS.names()}


@pytest.mark.backends
def test_methods_of_other_packages_are_added_when_asked(run: Command) -> None:
    rows = json.loads(run("list", "methods", "--json", "--backends").out)
    names = [row["name"] for row in rows]
    assert names == METHODS.names(guests=True)
    assert "captum/saliency" in names
    assert all(row["source"] and row["family"] and row["cost"] for row in rows)


def test_measures_are_those_of_the_registry(run: Command) -> None:
    rows = json.loads(run("list", "measures", "--json").out)
    assert [row["name"] for row in rows] == MEASURES.names()
    assert {row["direction"] for row in rows} <= {"higher", "lower", "none"}


def test_flags_are_listed_with_what_they_mean(run: Command) -> None:
    rows = json.loads(run("list", "flags", "--json").out)
    assert {row["flag"]: (row["meaning"], row["what to do"]) for row in rows} == FLAGS


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("methods", "integrated-gradients"),
        ("measures", "higher"),
        ("models", "texture-cnn"),
        ("flags", "default-library"),
    ],
)
def test_tables(run: Command, kind: str, expected: str) -> None:
    done = run("list", kind)
    assert (done.code, done.err) == (0, "")
    assert expected in done.out


def test_layers_mark_the_default(run: Command) -> None:
    done = run("layers", "texture-cnn")
    assert done.code == 0
    (line,) = [line for line in done.out.splitlines() if "default" in line]
    assert line.split()[0] == "features.11"


@pytest.mark.slow
def test_layers_as_json_need_no_weights(run: Command) -> None:
    found = json.loads(run("layers", "squeezenet1_0", "--json").out)
    assert found["default"] == "features.12"
    assert found["layers"]["features.12"] == [512, 13, 13]
