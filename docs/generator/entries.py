"""What a page says of a method or a measure, read from its class and the docstrings of class and file."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from xaikit.foundation.docstrings import arguments, file_docstring, notes


def own(registry: Any) -> list[Any]:
    """Return the classes of a registry that xaikit itself has, without plug-ins."""
    entries = [registry.get(name) for name in registry.names()]
    return [entry for entry in entries if entry.__module__.startswith("xaikit.") and "/" not in entry.name]


def details(entry: type[Any]) -> list[str]:
    """Return the paragraphs of a file's docstring beside title, formula, words and entries; tables keep their lines."""
    blocks = notes(file_docstring(entry))
    return [f"```text\n{textwrap.dedent(block)}\n```" if "  " in block else escaped(block) for block in blocks]


def parameters(entry: type[Any]) -> list[str]:
    """Return a table of the parameters with their defaults and meanings, or nothing."""
    meanings, names = arguments(entry), entry.parameter_names()
    rows = [
        [f"`{field.name}`", f"`{_default(field)!r}`", escaped(meanings.get(field.name, ""))]
        for field in fields(entry)
        if field.name in names
    ]
    return table(("parameter", "default", "meaning"), "lll", rows) if rows else []


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def typeset(text: str) -> str:
    """Return a formula in the plain notation of the code as HTML: sums, Greek letters, indices and powers."""
    lines = [_typeset(line) for line in text.splitlines()]
    return f'<div class="formula" markdown="0">{"<br>".join(lines)}</div>' if text else ""


_WORDS = {
    "sum": "∑", "prod": "∏", "sqrt": "√", "alpha": "α", "beta": "β", "delta": "δ", "sigma": "σ", "rho": "ρ",
    "phi": "φ", "psi": "ψ", "pi": "π", "inf": "∞",
}  # fmt: skip
_SIGNS = (("->", "→"), ("<=", "≤"), (">=", "≥"), ("!=", "≠"), (" (*) ", " ⊙ "), (" (x) ", " ⊗ "), (" * ", " · "))


def _typeset(line: str) -> str:
    for plain, sign in _SIGNS:
        line = line.replace(plain, sign)
    line = html.escape(line.replace("`", ""), quote=False)
    line = re.sub(r"\bd (?=score|z_c|x\b|A\b|A_k|\(output)", "∂", line)
    line = re.sub(
        r"(?<=[\w)|])_(\{[^}]*\}|[A-Za-z0-9]+[+-]?)", lambda found: f"<sub>{found[1].strip('{}')}</sub>", line
    )
    line = re.sub(r"\^(\{[^}]*\}|[A-Za-z0-9]+)", lambda found: f"<sup>{found[1].strip('{}')}</sup>", line)
    line = re.sub(r"[A-Za-z]+", lambda found: _WORDS.get(found[0], found[0]), line)
    return re.sub(r" {2,}", lambda found: "&emsp;" * min(6, len(found[0]) // 2), line)


def cited(source: str) -> str:
    """Return a source with its arXiv number as a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)


def escaped(text: str) -> str:
    """Return text whose characters mean themselves in a Markdown table, but for those of its code spans."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for part in parts[::2]]
    return "`".join(parts)


def interval(low: float, high: float) -> str:
    """Return a range such as [0, 1] or [0, ∞)."""
    ends = [f"{end:g}" if math.isfinite(end) else f"{'-' if end < 0 else ''}∞" for end in (low, high)]
    return f"{'[' if math.isfinite(low) else '('}{ends[0]}, {ends[1]}{']' if math.isfinite(high) else ')'}"


def table(heads: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    rules = {"l": "---", "c": ":---:", "r": "---:"}
    return [f"| {' | '.join(cells)} |" for cells in (heads, [rules[one] for one in align], *rows)]
