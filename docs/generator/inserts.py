"""Parts of written pages that follow from the code, in place of marks such as `<!-- flags -->`."""

from __future__ import annotations

import re

import xaikit
from docs.generator.entries import escaped, table
from docs.generator.messages import listed
from docs.generator.networks import networks
from docs.generator.results import figures
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.suite_entries import Data, SuiteMeasure, SuiteMethod, SuiteModel
from xaikit.foundation.flags import FLAGS

_MARK = re.compile(r"^<!-- (\w+)(?:: ([\w ]+))? -->$", re.MULTILINE)


def filled(page: str) -> str:
    """Return a page with its marks replaced."""
    return _MARK.sub(lambda found: _PARTS[found[1]](found[2] or ""), page)


def _flags(_: str) -> str:
    rows = [[f"`{name}`", escaped(flag.meaning), escaped(flag.remedy)] for name, flag in sorted(FLAGS.items())]
    return "\n".join(table(("flag", "what it means", "what to do"), "lll", rows))


def _public(_: str) -> str:
    return "\n\n".join(f"::: xaikit.{name}" for name in xaikit.__all__)


def _results(name: str) -> str:
    return "\n".join(figures(name))


def _suite(_: str) -> str:
    """Return the keys of a suite and of its entries with their meanings."""
    lines = []
    for part, heading in (
        (Suite, "A suite"),
        (SuiteModel, "An entry of `models`"),
        (Data, "`data`"),
        (SuiteMethod, "An entry of `methods`"),
        (SuiteMeasure, "An entry of `measures`"),
    ):
        rows = [[f"`{name}`", escaped(text)] for name, text in _attributes(part.__doc__ or "").items()]
        lines += [f"**{heading}**", "", *table(("key", "meaning"), "ll", rows), ""]
    return "\n".join(lines)


def _attributes(docstring: str) -> dict[str, str]:
    """Return the attributes of a docstring of Google's form."""
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        if match := re.match(r" {8}(\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found


_PARTS = {
    "flags": _flags,
    "public": _public,
    "messages": listed,
    "networks": networks,
    "results": _results,
    "suite": _suite,
}
