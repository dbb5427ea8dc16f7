"""Every flag is explained: one sentence of what it means, one of what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import xaikit
from xaikit.foundation.flags import FLAGS, Flag, described
from xaikit.methods.base import Need

PACKAGE = Path(xaikit.__file__).parent
FILES = sorted(file for room in ("methods", "backends", "run", "model") for file in (PACKAGE / room).rglob("*.py"))


def flags_in(source: str) -> Iterator[str]:
    """Yield the flags that a source file sets: words in sets, and the keys of mappings called flags."""
    tree = ast.parse(source)
    needs = {id(arg) for node in ast.walk(tree) if _calls(node, "frozenset") for arg in node.args}  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Set) and id(node) not in needs:
            yield from _texts(node.elts)
        elif isinstance(node, ast.Assign | ast.keyword):
            names = [node.arg] if isinstance(node, ast.keyword) else [getattr(name, "id", "") for name in node.targets]
            if "flags" in names:
                for part in ast.walk(node.value):
                    yield from _texts(part.keys) if isinstance(part, ast.Dict) else ()
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add" and _is_flags(node.func):
            yield from _texts(node.args)


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == name


def _is_flags(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in ("flags", "names")


def _texts(nodes: list[ast.expr] | list[ast.expr | None]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def found() -> set[str]:
    words = {name for file in FILES for name in flags_in(file.read_text(encoding="utf-8"))}
    return {name for name in words if re.fullmatch(r"[a-z]+(-[a-z]+)*", name)}


NO_FLAGS = {*get_args(Need), "classifier", "layer", "self", "kwargs", "sign", "height", "width"}
"""Other words in sets: what methods need, arguments, and a function of torch."""


@pytest.mark.slow
def test_every_flag_in_the_source_is_explained() -> None:
    assert len(found() & set(FLAGS)) > 15
    assert found() - set(FLAGS) - NO_FLAGS == set()


def test_every_explained_flag_is_set_somewhere() -> None:
    text = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
    assert [name for name in FLAGS if f'"{name}"' not in text] == []


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_has_one_sentence_of_each(name: str) -> None:
    for sentence in FLAGS[name]:
        assert re.fullmatch(r"[A-Z][^.]*(\.[^ ][^.]*)*\.", sentence), sentence
    assert described(name) == f"{name}: {FLAGS[name].meaning} {FLAGS[name].remedy}"


def test_the_flag_of_a_plugin_is_shown_by_its_name_until_it_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert described("mine") == "mine"
    monkeypatch.setitem(FLAGS, "mine", Flag("It is mine.", "Keep it."))
    assert described("mine") == "mine: It is mine. Keep it."
