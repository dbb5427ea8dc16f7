"""The README's tables, written from the registries: `python -m tests.readme` puts them between their markers.

<!-- methods -->        one row a method of xaikit itself, by family
<!-- /methods -->
<!-- measures -->       one row a measure
<!-- /measures -->
"""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from xaikit.foundation.files import write_text
from xaikit.measures.base import MEASURES, Direction, Measure
from xaikit.methods.base import METHODS, Family, Method
from xaikit.zoo.load import load

__all__ = ["ROOT", "main", "rewritten"]

ROOT = Path(__file__).resolve().parents[1]
MODEL, SIZE = "resnet50", (224, 224)
ARROWS: dict[Direction, str] = {"higher": "↑", "lower": "↓", "none": "–"}


def main() -> None:
    """Rewrite the README where it is stale."""
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = rewritten(before)
    if after != before:
        write_text(readme, after)
    sys.stdout.write(f"README.md: {'rewritten' if after != before else 'fresh'}\n")


def rewritten(text: str) -> str:
    """Return the README with its tables as the registries have them now."""
    for name, lines in (("methods", methods()), ("measures", measures())):
        marked = re.compile(rf"(<!-- {name} -->\n).*(<!-- /{name} -->)", re.DOTALL)
        assert len(marked.findall(text)) == 1, f"README.md: expected one pair of markers for {name}"
        block = "\n".join(lines)
        text = marked.sub(lambda found, block=block: f"{found[1]}\n{block}\n\n{found[2]}", text)
    return text


@cache
def methods() -> list[str]:
    """Return the table of methods; what they cost is for one image with default parameters."""
    classifier = load(MODEL, weights="random", device="cpu")
    families = get_args(Family)
    entries = sorted(own(METHODS), key=lambda entry: (families.index(entry.family), entry.name))
    return table(
        ("method", "family", "forwards", "backwards", "signed", "source"),
        "llrrcl",
        [method_row(entry, entry(classifier)) for entry in entries],
    )


def method_row(entry: type[Method], method: Method) -> list[str]:
    """Return one method's cells."""
    cost = method.cost(SIZE)
    passes = [f"{count:g}" if count else "–" for count in (cost.forwards, cost.backwards)]
    return [linked(entry), entry.family, *passes, "yes" if entry.signed else "–", cited(entry.source)]


@cache
def measures() -> list[str]:
    """Return the table of measures."""
    rows = [
        [linked(entry), summary(entry), ARROWS[entry.direction], interval(*entry.range), cited(entry.source)]
        for entry in own(MEASURES)
    ]
    return table(("measure", "what it is for one image", "better", "range", "source"), "llcll", rows)


def own(registry: Any) -> list[Any]:
    """Return the classes of a registry that xaikit itself has, without plug-ins."""
    entries = [registry.get(name) for name in registry.names()]
    return [entry for entry in entries if entry.__module__.startswith("xaikit.")]


def summary(entry: type[Measure]) -> str:
    """Return the first line of a class's docstring, without its full stop."""
    return (inspect.getdoc(entry) or "").partition("\n")[0].removesuffix(".")


def linked(entry: type[Any]) -> str:
    """Return a name that leads to its source file."""
    return f"[{entry.name}]({entry.__module__.replace('.', '/')}.py)"


def cited(source: str) -> str:
    """Return a source with its arXiv number as a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)


def interval(low: float, high: float) -> str:
    """Return a range such as [0, 1] or [0, ∞)."""
    ends = [f"{end:g}" if math.isfinite(end) else f"{'-' if end < 0 else ''}∞" for end in (low, high)]
    return f"{'[' if math.isfinite(low) else '('}{ends[0]}, {ends[1]}{']' if math.isfinite(high) else ')'}"


def table(heads: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    rules = {"l": "---", "c": ":---:", "r": "---:"}
    return [f"| {' | '.join(cells)} |" for cells in (heads, [rules[one] for one in align], *rows)]


if __name__ == "__main__":
    main()
