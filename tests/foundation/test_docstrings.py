"""What a report says of a method is what its file says first, and every file says it in words."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from xaikit.foundation.docstrings import arguments, first_line, formula, in_words, labelled, meaning, notes, title
from xaikit.measures.base import MEASURES
from xaikit.methods.base import METHODS

DOCSTRING = """Name: a map of something.

    map = a
        + b
    c   = 2

In words: What the map
shows.

More words, and

    no formula

Units:  none.
Source: Somebody, 2020,
    page 3.
"""


def test_the_first_line_and_the_first_block():
    assert meaning(DOCSTRING) == "A map of something."
    assert formula(DOCSTRING) == "map = a\n    + b\nc   = 2"
    assert in_words(DOCSTRING) == "What the map shows."
    assert first_line(DOCSTRING) == "Name: a map of something."


def test_notes_and_entries():
    assert notes(DOCSTRING) == ["More words, and", "    no formula"]
    assert (labelled(DOCSTRING, "Units"), labelled(DOCSTRING, "Source")) == ("none.", "Somebody, 2020, page 3.")
    assert labelled(DOCSTRING, "Shapes") == ""


class Base:
    """A class.

    Args:
        steps: number of points; None chooses
            it.
        fill: value.

    Raises:
        BadInput: never.
    """


class Derived(Base):
    """Another class.

    Args:
        fill: another value.
    """


def test_arguments_are_those_of_a_class_and_its_bases():
    assert arguments(Base) == {"steps": "number of points; None chooses it.", "fill": "value."}
    assert arguments(Derived) == {"steps": "number of points; None chooses it.", "fill": "another value."}
    assert arguments(object) == {}


def test_a_title_is_the_files_unless_it_has_several():
    assert title(METHODS.get("grad-cam")) == "Activation maps weighted by their mean gradient."
    assert title(MEASURES.get("tie-rate")) == "Whether confidence stays exactly the same; report it with ir and dr."


def test_what_has_none_of_it_is_empty():
    assert meaning("Two methods") == "Two methods"
    for docstring in (None, "", "Title.", "Title.\n\nWords.\n\n    no formula, it comes too late\n"):
        assert (formula(docstring), in_words(docstring)) == ("", "")
    assert (meaning(None), first_line(None)) == ("", "")


@pytest.mark.parametrize("entry", [registry.get(name) for registry in (METHODS, MEASURES) for name in registry.names()])
def test_every_method_and_measure_is_explained_in_words(entry: type[Any]) -> None:
    docstring = sys.modules[entry.__module__].__doc__ or ""
    assert 40 <= len(in_words(docstring).split()) <= 90
    assert max(map(len, docstring.splitlines())) <= 120
