"""A page for each measure, and their table."""

from __future__ import annotations

from collections.abc import Sequence

from docs.generator.entries import cited, details, escaped, interval, own, parameters, table, typeset
from xaikit.foundation.docstrings import file_docstring, first_line, formula, in_words, labelled
from xaikit.measures.base import MEASURES, Direction, Measure

_BETTER: dict[Direction, str] = {"higher": "higher", "lower": "lower", "none": "neither"}
_GROUPS = {
    "removal": "What the network says of the image while pixels are removed, highest or lowest values first.",
    "faithfulness": "Whether the map predicts what removing parts of the image does to the score.",
    "localisation": "Whether the map lies on the evidence. They need masks.",
    "randomisation": "Whether the map changes when it should: with other weights, for another class.",
    "robustness": "Whether the map stays when it should: under noise, with another seed.",
    "complexity": "How much of the image the map marks.",
    "cost": "What the map costs.",
}


def measure_pages() -> dict[str, str | bytes]:
    """Return the pages by path."""
    entries = sorted(own(MEASURES), key=lambda entry: (list(_GROUPS).index(_group(entry)), entry.name))
    pages: dict[str, str | bytes] = {"measures/index.md": _index(entries)}
    return pages | {f"measures/{entry.name}.md": _page(entry) for entry in entries}


def _group(entry: type[Measure]) -> str:
    return entry.__module__.split(".")[2]


def _index(entries: Sequence[type[Measure]]) -> str:
    lines = [
        "# Measures",
        "",
        "A measure gives each image one number. No single one says whether an explanation is good: compare with the",
        "controls, and take at least one with soft masks, one with binary masks and, where the evidence is known, one",
        "of localisation.",
    ]
    for group, about in _GROUPS.items():
        members = [entry for entry in entries if _group(entry) == group]
        lines += ["", f"## {group.capitalize()}", "", about, ""]
        lines += table(
            ("measure", "what it is for one image", "better", "range", "source"),
            "llcll",
            map(_row, members),
        )
    return "\n".join([*lines, ""])


def _row(entry: type[Measure]) -> list[str]:
    about = escaped(first_line(entry.__doc__))
    linked = f"[{entry.name}]({entry.name}.md)"
    return [linked, about, _BETTER[entry.direction], interval(*entry.range), cited(entry.source)]


def _page(entry: type[Measure]) -> str:
    docstring, about = file_docstring(entry), first_line(entry.__doc__)
    facts = [
        ["better", _BETTER[entry.direction]],
        ["range", interval(*entry.range)],
        ["needs", ", ".join(sorted(entry.needs))],
        *([["cost", escaped(cost)]] if (cost := labelled(docstring, "Cost")) else []),
    ]
    lines = [f"# {entry.name}", "", f"*{about}*", "", in_words(docstring), "", typeset(formula(docstring)), ""]
    lines += ["```python", f'xaikit.measure(clf, x, attribution, ["{entry.name}"])', "```", ""]
    lines += ["## Facts", "", *table(("property", "value"), "ll", facts), ""]
    if asked := parameters(entry):
        lines += ["## Parameters", "", *asked, ""]
    if rest := details(entry):
        lines += ["## In detail", "", *(f"{block}\n" for block in rest)]
    lines += ["## Source", "", cited(labelled(docstring, "Source") or entry.source), ""]
    if departs := labelled(docstring, "Departs from source"):
        lines += [f"**Departs from the source:** {escaped(departs)}", ""]
    return "\n".join([*lines, f"Code: `{entry.__module__.replace('.', '/')}.py`", ""])
