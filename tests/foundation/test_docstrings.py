"""What a report says of a method is what its file says first, and every file says it in words."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from xaikit.foundation.docstrings import arguments, entry, first_line, formula, in_words, meaning, notes, title
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
    assert (entry(DOCSTRING, "Units"), entry(DOCSTRING, "Source")) == ("none.", "Somebody, 2020, page 3.")
    assert entry(DOCSTRING, "Shapes") == ""


def test_arguments_are_those_of_one_section():
    docstring = """A class.

    Args:
        steps: number of points; None chooses
            it.
        fill: value.

    Raises:
        BadInput: never.
    """
    assert arguments(docstring) == {"steps": "number of points; None chooses it.", "fill": "value."}
    assert arguments("A class.") == arguments(None) == {}


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
