"""Rows as scoring writes them, drawn from a fixed stream."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from xaikit.benchmark.manifest import MeasureAbout
from xaikit.report.numbers import export
from xaikit.report.numbers.aggregate import Result, summaries
from xaikit.report.numbers.columns import Column, Measures
from xaikit.report.numbers.compare import Difference, all_differences, compared
from xaikit.report.numbers.gather import Name
from xaikit.report.numbers.latex import Latex
from xaikit.report.numbers.tables import summary_table
from xaikit.report.page import page
from xaikit.report.page.block import Block

Rows = Sequence[dict[str, Any]]

METHODS = {"grad-cam": "activation", "libra-cam": "activation", "saliency": "gradient", "ones": "control"}


def rows(images: int = 5, levels: int = 10, methods: dict[str, str] = METHODS, **changed: Any) -> list[dict[str, Any]]:
    stream = random.Random(7)
    return [
        _row(stream, f"{image:03d}.png", method, family, levels) | changed
        for image in range(images)
        for method, family in methods.items()
    ]


def _row(stream: random.Random, image: str, method: str, family: str, levels: int) -> dict[str, Any]:
    y = stream.uniform(0.3, 1.0)
    return {
        "unit_id": f"{image}/{method}",
        "image_id": image,
        "method": method,
        "family": family,
        "dataset": "drawn",
        "model": "net",
        "params": "{}",
        "layer": "features",
        "calibrated": method == "libra-cam",
        "flags": [],
        "levels": levels,
        "label": 1,
        "label_name": "dots",
        "target": 1,
        "target_name": "dots",
        "y": y,
        "o_soft": [stream.choice([y, stream.random()]) for _ in range(levels + 1)],
        "o_binary": [y, *(stream.random() for _ in range(levels))],
        "map_mean": stream.random(),
        "pointing": stream.random(),
        "energy_inside": stream.random(),
        "ms": 1.5,
        "forwards": 1.0,
        "backwards": 0.0,
    }


def aggregate(drawn: Rows) -> list[Result]:
    """Return the results of the rows of one data set and model."""
    (summary,) = summaries(drawn).values()
    return list(summary.results)


def paired_differences(results: Sequence[Result], reference: str, column: Column) -> list[Difference]:
    pairs = compared(results, [column if column.ranked else Column(column.key, "", "", "higher", 3, "")])
    return all_differences(results, column, pairs[column.key])[reference]


def render(drawn: Rows, run: Mapping[str, Any], pictures: page.Pictures | None = None, **more: Any) -> str:
    return page.page(_blocks(drawn, run, pictures, more), run)


def write_report(
    path: Path, drawn: Rows, run: Mapping[str, Any], pictures: page.Pictures | None = None, **more: Any
) -> Path:
    page.write_page(path, _blocks(drawn, run, pictures, more), run)
    return path


def measures(**directions: Any) -> dict[str, MeasureAbout]:
    """Return the measures of a suite by their names and better directions."""
    return {name: MeasureAbout(name=name, direction=direction) for name, direction in directions.items()}


def write_summaries(folder: Path, drawn: Rows, measures: Measures | None = None, **latex: Any) -> None:
    wanted = Latex(**latex)
    tables = {name: summary_table(summary.results, measures) for name, summary in summaries(drawn).items()}
    export.write_summaries(folder, tables, wanted)


def _blocks(drawn: Rows, run: Mapping[str, Any], pictures: page.Pictures | None, more: dict[str, Any]) -> list[Block]:
    return page.page_blocks(summaries(drawn), _rows_of(drawn), run, pictures, **more)


def _rows_of(drawn: Rows) -> page.RowsOf:
    def rows_of(name: Name, images: Collection[str]) -> Rows:
        return [row for row in drawn if (row["dataset"], row["model"]) == name and row["image_id"] in images]

    return rows_of
