"""The numbers of a report for other programs: summary.csv has all of them, summary.tex the table of the page.

csv    one line a dataset, model and method, values in full; NAME_low and NAME_high are the ends of the 95 % interval,
       NAME_p is that of the paired test against the column's best method, by Holm; what is unknown is empty
tex    one `tabular` a dataset and model for the package booktabs; best bold, also what the paired test does not tell
       from it, second underlined, intervals small
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from xaikit.foundation.files import write_text
from xaikit.report.numbers.aggregate import Result, Row, aggregate, blocks
from xaikit.report.numbers.columns import shown_columns
from xaikit.report.numbers.compare import Leader, leaders
from xaikit.report.numbers.tables import Cell, Line, Table, summary_table

Blocks = Mapping[tuple[str, str], Sequence[Result]]

_ABOUT = ("dataset", "model", "method", "family", "params", "layer", "images", "excluded")
_NAN = float("nan")
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{EN DASH}": "--",
} | {mark: f"\\{mark}" for mark in "&%$#_{}"}


def write_summaries(folder: str | Path, rows: Sequence[Row], directions: Mapping[str, str] | None = None) -> None:
    """Write summary.csv and summary.tex into a folder."""
    results = {key: aggregate(own) for key, own in blocks(rows).items()}
    write_text(Path(folder) / "summary.csv", summary_csv(results, directions))
    write_text(Path(folder) / "summary.tex", summary_tex(results, directions))


def summary_csv(results: Blocks, directions: Mapping[str, str] | None = None) -> str:
    """Return one line a dataset, model and method."""
    found = [one for several in results.values() for one in several]
    names = list(dict.fromkeys(key for one in found for key in (*one.scalars, *one.intervals)))
    led = {key: leaders(several, shown_columns(several, directions)) for key, several in results.items()}
    tested = {name for block in led.values() for name in block}
    bounded = {name for one in found for name in one.intervals}
    parts = {
        name: [*(("", "_low", "_high") if name in bounded else ("",)), *(("_p",) if name in tested else ())]
        for name in names
    }
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_ABOUT, *(name + part for name in names for part in parts[name])])
    for (dataset, model), several in results.items():
        for one in several:
            values = {name: _numbers(one, name, led[dataset, model].get(name)) for name in names}
            about = [dataset, model, one.method, one.family, one.params, one.layer, one.count, one.excluded]
            writer.writerow(about + [_text(values[name][part]) for name in names for part in parts[name]])
    return stream.getvalue()


def _numbers(result: Result, name: str, leader: Leader | None) -> dict[str, float]:
    low, high = result.interval(name)
    p = leader.p.get(result.method, _NAN) if leader else _NAN
    return {"": result.mean(name), "_low": low, "_high": high, "_p": p}


def _text(value: float) -> str:
    return repr(value) if value == value else ""


def summary_tex(results: Blocks, directions: Mapping[str, str] | None = None) -> str:
    """Return one tabular a dataset and model."""
    return "% \\usepackage{booktabs}\n" + "\n".join(
        _tabular(f"{model}, {dataset}", summary_table(several, directions))
        for (dataset, model), several in results.items()
    )


def _tabular(title: str, table: Table) -> str:
    heads = [_escaped(f"{column.title} {column.arrow}".strip()) for column in table.columns]
    groups = [rf"\multicolumn{{{span}}}{{c}}{{{_escaped(name)}}}" for name, span in table.groups]
    starts = sorted(table.starts)
    rules = [rf"\cmidrule(lr){{{start + 2}-{end + 1}}}" for start, end in pairwise(starts)]
    lines = [
        f"% {' '.join(title.split())}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["", *groups]) + r" \\",
        "".join(rules),
        " & ".join(["method", *heads]) + r" \\",
        r"\midrule",
        *map(_line, table.methods),
        *([r"\midrule"] if table.methods and table.controls else []),
        *map(_line, table.controls),
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _line(line: Line) -> str:
    return " & ".join([_escaped(line.result.method), *map(_cell, line.cells)]) + r" \\"


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    marked = {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}.get(cell.mark, text)
    return rf"{marked} {{\scriptsize {_escaped(cell.interval)}}}" if cell.interval else marked


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
