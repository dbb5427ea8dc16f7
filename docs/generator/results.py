"""Measured figures of the methods, from evaluation/results/methods.csv."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from docs.generator.entries import table

_FILE = Path("evaluation") / "results" / "methods.csv"


@cache
def rows() -> dict[str, dict[str, str]]:
    """Return the figures by method, in the order of the file."""
    with _FILE.open(encoding="utf-8", newline="") as stream:
        return {row["method"]: row for row in csv.DictReader(stream)}


def figures(method: str | None = None) -> list[str]:
    """Return the table of a method's figures, or of all; nothing for a method that was not measured."""
    chosen = [row for name, row in rows().items() if method in (None, name)]
    if not chosen:
        return []
    heads = list(chosen[0])
    return table(heads, "l" + "r" * (len(heads) - 1), [list(row.values()) for row in chosen])
