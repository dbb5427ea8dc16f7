"""What a report says of a method is what its file says first."""

from __future__ import annotations

from xaikit.foundation.docstrings import first_line, formula, meaning

DOCSTRING = """Name: a map of something.

    map = a
        + b
    c   = 2

More words, and

    no formula
"""


def test_the_first_line_and_the_first_block():
    assert meaning(DOCSTRING) == "A map of something."
    assert formula(DOCSTRING) == "map = a\n    + b\nc   = 2"
    assert first_line(DOCSTRING) == "Name: a map of something."


def test_what_has_none_of_it_is_empty():
    assert meaning("Two methods") == "Two methods"
    for docstring in (None, "", "Title.", "Title.\n\nWords.\n\n    no formula, it comes too late\n"):
        assert formula(docstring) == ""
    assert (meaning(None), first_line(None)) == ("", "")
