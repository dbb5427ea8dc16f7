"""What a page says of a method or a measure, read from its class and the docstrings of class and file."""

from __future__ import annotations

import html
import inspect
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from typing import Any

from xaikit.foundation.docstrings import formula, meaning

_FIELDS = ("Direction", "Range", "Needs", "Cost", "Shapes", "Units", "Source", "Departs from source", "Completeness")


def own(registry: Any) -> list[Any]:
    """Return the classes of a registry that xaikit itself has, without plug-ins."""
    entries = [registry.get(name) for name in registry.names()]
    return [entry for entry in entries if entry.__module__.startswith("xaikit.") and "/" not in entry.name]


def file_docstring(entry: type[Any]) -> str:
    """Return the docstring of the file that defines a class."""
    return sys.modules[entry.__module__].__doc__ or ""


def title(entry: type[Any]) -> str:
    """Return what the title line of the file says, as a sentence; of a file with several measures, the class's line."""
    return meaning(file_docstring(entry)) if _is_alone(entry) else first_line(entry)


def first_line(entry: type[Any]) -> str:
    """Return the first line of a class's docstring."""
    return (inspect.getdoc(entry) or "").partition("\n")[0]


def _is_alone(entry: type[Any]) -> bool:
    """Return whether no other registered class is in the file."""
    named = [
        value
        for value in vars(sys.modules[entry.__module__]).values()
        if isinstance(value, type) and value.__module__ == entry.__module__ and isinstance(vars(value).get("name"), str)
    ]
    return len(named) == 1


def paragraphs(entry: type[Any]) -> tuple[str, list[str], dict[str, str]]:
    """Return the formula, the prose and the fields of a file's docstring."""
    docstring = inspect.cleandoc(file_docstring(entry))
    blocks = [block for block in re.split(r"\n\s*\n", docstring)[1:] if block.strip()]
    prose: list[str] = []
    found: dict[str, str] = {}
    for block in blocks:
        if block.startswith("    "):
            continue
        label = None
        for line in block.splitlines():
            name, _, rest = line.partition(":")
            if name.strip() in _FIELDS and not line.startswith(" "):
                label = name.strip()
                found[label] = rest.strip()
            elif label is not None:
                found[label] += f" {line.strip()}"
            else:
                prose.append(line)
        if label is None:
            prose.append("")
    return formula(file_docstring(entry)), "\n".join(prose).strip().split("\n\n"), found


def parameters(entry: type[Any]) -> list[str]:
    """Return a table of the parameters with their defaults and meanings, or nothing."""
    meanings: dict[str, str] = {}
    for kind in reversed(inspect.getmro(entry)):
        meanings |= _described(inspect.cleandoc(kind.__doc__ or ""))
    defaults = {field.name: field.default for field in fields(entry)}
    rows = [
        [f"`{name}`", f"`{_default(defaults.get(name))}`", escaped(meanings.get(name, ""))]
        for name in entry.parameter_names()
    ]
    return table(("parameter", "default", "meaning"), "lll", rows) if rows else []


def _described(docstring: str) -> dict[str, str]:
    """Return the arguments of a docstring of Google's form."""
    _, _, block = docstring.partition("Args:\n")
    found: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if not line.strip() or not line.startswith("    "):
            break
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += f" {line.strip()}"
    return found


def _default(value: Any) -> str:
    return "required" if value is MISSING else repr(value)


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
    line = html.escape(line, quote=False)
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
    """Return text whose characters mean themselves in a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def interval(low: float, high: float) -> str:
    """Return a range such as [0, 1] or [0, ∞)."""
    ends = [f"{end:g}" if math.isfinite(end) else f"{'-' if end < 0 else ''}∞" for end in (low, high)]
    return f"{'[' if math.isfinite(low) else '('}{ends[0]}, {ends[1]}{']' if math.isfinite(high) else ')'}"


def table(heads: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    rules = {"l": "---", "c": ":---:", "r": "---:"}
    return [f"| {' | '.join(cells)} |" for cells in (heads, [rules[one] for one in align], *rows)]
