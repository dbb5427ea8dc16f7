"""The numbers of a report for other programs: summary.csv has all of them, summary.tex the table of the page.

csv    one line a dataset, model and method, values in full
tex    one `tabular` a dataset and model, without packages; best bold, second underlined
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from xaikit.core.files import write_text
from xaikit.report.aggregate import Result, Row, aggregate, blocks
from xaikit.report.tables import Cell, Line, Table, summary_table

__all__ = ["summary_csv", "summary_tex", "write_summaries"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{EN DASH}": "--",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def write_summaries(folder: str | Path, rows: Sequence[Row], directions: Mapping[str, str] | None = None) -> None:
    """Write summary.csv and summary.tex into a folder."""
    results = {key: aggregate(own) for key, own in blocks(rows).items()}
    write_text(Path(folder) / "summary.csv", summary_csv(results))
    write_text(Path(folder) / "summary.tex", summary_tex(results, directions))


def summary_csv(results: Mapping[tuple[str, str], Sequence[Result]]) -> str:
    """Return one line a dataset, model and method."""
    found = [one for several in results.values() for one in several]
    names = list(dict.fromkeys(name for one in found for name in one.scalars))
    measures = list(dict.fromkeys(name for one in found for name in one.measures))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["dataset", "model", "method", "family", "params", "layer", "images", "excluded"]
    writer.writerow(head + names + [f"measure.{name}" for name in measures])
    for (dataset, model), several in results.items():
        for one in several:
            values = [one.scalars.get(name) for name in names] + [one.measures.get(name) for name in measures]
            about = [dataset, model, one.method, one.family, one.params, one.layer, one.count, one.excluded]
            writer.writerow(about + ["" if value is None or value != value else repr(value) for value in values])
    return stream.getvalue()


def summary_tex(
    results: Mapping[tuple[str, str], Sequence[Result]], directions: Mapping[str, str] | None = None
) -> str:
    """Return one tabular a dataset and model."""
    return "\n".join(
        _tabular(f"{model}, {dataset}", summary_table(several, directions))
        for (dataset, model), several in results.items()
    )


def _tabular(title: str, table: Table) -> str:
    heads = [_escaped(f"{column.title} {column.arrow}".strip()) for column in table.columns]
    groups = [rf"\multicolumn{{{span}}}{{c}}{{{_escaped(name)}}}" for name, span in table.groups]
    lines = [
        f"% {title}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\hline",
        " & ".join(["", *groups]) + r" \\",
        " & ".join(["method", *heads]) + r" \\",
        r"\hline",
        *map(_line, table.methods),
        r"\hline",
        *map(_line, table.controls),
        r"\hline",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _line(line: Line) -> str:
    return " & ".join([_escaped(line.result.method), *map(_cell, line.cells)]) + r" \\"


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}.get(cell.mark, text)


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
