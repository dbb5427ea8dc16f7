"""Measured figures of the methods, from evaluation/results."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from docs.generator.entries import table

_FOLDER = Path("evaluation") / "results"
_NETWORKS = {"methods": "texture-cnn", "transformer": "texture-vit"}
"""The network of the drawn pictures in each file."""


@cache
def rows(name: str) -> dict[str, dict[str, str]]:
    """Return the figures in a file by method, in the order of the file."""
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return {row["method"]: row for row in csv.DictReader(stream)}


def figures(name: str) -> list[str]:
    """Return the table of all methods in a file."""
    return _table(list(rows(name).values()))


def figures_of(method: str) -> list[str]:
    """Return the table of a method's figures with a row per network; nothing for a method that was not measured."""
    found = [(network, dict(row)) for name, network in _NETWORKS.items() if (row := rows(name).get(method))]
    return _table([{"network": network} | {key: row[key] for key in list(row)[1:]} for network, row in found])


def _table(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return []
    heads = list(dict.fromkeys(head for row in rows for head in row))
    return table(heads, "l" + "r" * (len(heads) - 1), [[row.get(head, "") for head in heads] for row in rows])
