"""The numbers of a report for other programs: summary.csv has all of them, summary.tex the table of the page.

csv    one line per dataset, model and method, values in full precision, empty where unknown; NAME_low and NAME_high
       are the ends of the 95 % interval, NAME_p is the Holm-corrected p against the column's best method; a text that
       a spreadsheet would take for a formula has an apostrophe before it
tex    one `tabular` per dataset and model for the package booktabs; bold for the best method and those that the paired
       test cannot distinguish from it, underlined for the second, intervals small
"""

import csv
import io
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from xaikit.foundation.files import write_text
from xaikit.foundation.texts import visible
from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.compare import Leader
from xaikit.report.numbers.gather import Name
from xaikit.report.numbers.tables import Cell, Line, Table

Tables = Mapping[Name, Table]

_ABOUT = ("dataset", "model", "method", "family", "params", "layer", "images", "excluded")
_NAN = float("nan")
_FORMULA = ("=", "+", "-", "@")
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


def write_summaries(folder: str | Path, tables: Tables) -> None:
    """Write summary.csv and summary.tex into a folder."""
    write_text(Path(folder) / "summary.csv", summary_csv(tables))
    write_text(Path(folder) / "summary.tex", summary_tex(tables))


def summary_csv(tables: Tables) -> str:
    """Return a CSV with one line per dataset, model and method."""
    results = {key: [line.result for line in (*table.methods, *table.controls)] for key, table in tables.items()}
    everything = [result for block in results.values() for result in block]
    names = list(dict.fromkeys(key for result in everything for key in (*result.scalars, *result.intervals)))
    tested = {name for table in tables.values() for name in table.leaders}
    bounded = {name for result in everything for name in result.intervals}
    parts = {
        name: [*(("", "_low", "_high") if name in bounded else ("",)), *(("_p",) if name in tested else ())]
        for name in names
    }
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_ABOUT, *(_guarded(name + part) for name in names for part in parts[name])])
    for (dataset, model), block in results.items():
        best = tables[dataset, model].leaders
        for result in block:
            values = {name: _numbers(result, name, best.get(name)) for name in names}
            about = [dataset, model, result.method, result.family, result.params, result.layer]
            about += [str(result.count), str(result.excluded)]
            numbers = [_text(values[name][part]) for name in names for part in parts[name]]
            writer.writerow([*map(_guarded, about), *numbers])
    return stream.getvalue()


def _numbers(result: Result, name: str, leader: Leader | None) -> dict[str, float]:
    low, high = result.interval(name)
    p = leader.p.get(result.method, _NAN) if leader else _NAN
    return {"": result.mean(name), "_low": low, "_high": high, "_p": p}


def _guarded(text: str) -> str:
    """Return a text that is one cell and no formula: an apostrophe stands before one that begins like a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _text(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def summary_tex(tables: Tables) -> str:
    """Return LaTeX with one tabular per dataset and model."""
    return "% \\usepackage{booktabs}\n" + "\n".join(
        _tabular(f"{model}, {dataset}", table) for (dataset, model), table in tables.items()
    )


def _tabular(title: str, table: Table) -> str:
    heads = [_escaped(f"{column.title} {column.arrow}".strip()) for column in table.columns]
    groups = [rf"\multicolumn{{{span}}}{{c}}{{{_escaped(name)}}}" for name, span in table.groups]
    starts = sorted(table.starts)
    rules = [rf"\cmidrule(lr){{{start + 2}-{end + 1}}}" for start, end in pairwise(starts)]
    lines = [
        f"% {visible(' '.join(title.split()))}",
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
    return "".join(_SPECIAL.get(letter, letter) for letter in visible(" ".join(text.split())))
