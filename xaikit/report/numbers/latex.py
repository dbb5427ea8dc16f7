"""summary.tex: the table of the page for a paper, one `tabular` per dataset and model for the package booktabs.

    columns, caption, intervals -> the columns in the order asked for; with a caption each tabular is in a `table`

A `table` is never wider than the column of the paper: a wider tabular is scaled down (graphicx). Bold for the best
method and those that the paired test cannot distinguish from it, underlined for the second; intervals small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.foundation.texts import visible
from xaikit.report.numbers.columns import SHORT, Column, names_of
from xaikit.report.numbers.tables import Cell, Line, Table, Tables

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


@dataclass(frozen=True)
class Latex:
    """What summary.tex shows.

    Args:
        columns: names of the columns, in order: those of measures, or of summary.csv; empty takes all.
        caption: caption of the tables as plain text, "" for none.
        intervals: whether each mean has its interval beside it.

    Raises:
        BadInput: `columns` or `caption` is no text.
    """

    columns: Sequence[str] = ()
    caption: str = ""
    intervals: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.columns, list | tuple):
            raise BadInput(f"columns: expected a list of names, got {type(self.columns).__name__}")
        if not all(isinstance(name, str) and name.strip() for name in self.columns):
            raise BadInput(f"columns: expected names such as apd,ms, got {', '.join(map(repr, self.columns))}")
        if not isinstance(self.caption, str):
            raise BadInput(f"caption: expected a text, got {type(self.caption).__name__}")


def summary_tex(tables: Tables, latex: Latex) -> str:
    """Return LaTeX with one tabular per dataset and model.

    Raises:
        UnknownName: a name in `latex.columns` is that of no column.
    """
    known = {name for table in tables.values() for column in table.columns for name in names_of(column)}
    for name in latex.columns:
        if _plain(name) not in map(_plain, known):
            raise UnknownName("column", name, sorted(known), f"expected {', '.join(sorted(known))}")
    several = len(tables) > 1
    parts = []
    for (dataset, model), table in tables.items():
        tabular = _tabular(f"{model}, {dataset}", table, _chosen(table, latex.columns), latex.intervals)
        caption = f"{latex.caption} ({model}, {dataset})" if several else latex.caption
        parts.append(_captioned(tabular, caption) if latex.caption else tabular)
    packages = "booktabs,graphicx" if latex.caption else "booktabs"
    return f"% \\usepackage{{{packages}}}\n" + "\n".join(parts)


def _chosen(table: Table, names: Sequence[str]) -> list[int]:
    """Return the indices of the columns with these names, of all for no names."""
    columns = list(enumerate(table.columns))[::-1]  # of two with one name the first, which the suite measures
    places = {_plain(name): index for index, column in columns for name in names_of(column)}
    chosen = [places[_plain(name)] for name in names if _plain(name) in places]
    return list(dict.fromkeys(chosen)) if names else list(range(len(table.columns)))


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _captioned(tabular: str, caption: str) -> str:
    lines = [
        r"\begin{table}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_escaped(caption)}}}",
        r"\sbox0{%",
        tabular.rstrip("\n") + "}%",
        r"\ifdim\wd0>\columnwidth\resizebox{\columnwidth}{!}{\usebox0}\else\usebox0\fi",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _tabular(title: str, table: Table, chosen: Sequence[int], intervals: bool) -> str:
    columns = [table.columns[index] for index in chosen]
    groups = [(name, len(list(same))) for name, same in groupby(columns, key=lambda column: column.group)]
    heads = [rf"\multicolumn{{{span}}}{{c}}{{{_escaped(SHORT.get(name, name))}}}" for name, span in groups]
    starts = list(accumulate((span for _, span in groups), initial=0))
    rules = [rf"\cmidrule(lr){{{start + 2}-{end + 1}}}" for start, end in pairwise(starts)]
    blocks = [
        line
        for lines in table.blocks.values()
        for line in (r"\midrule", *(_line(line, chosen, intervals) for line in lines))
    ]
    lines = [
        f"% {visible(' '.join(title.split()))}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        "".join(rules),
        " & ".join(["method", *map(_head, columns)]) + r" \\",
        *blocks,
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _head(column: Column) -> str:
    return _escaped(f"{column.title} {column.arrow}".strip())


def _line(line: Line, chosen: Sequence[int], intervals: bool) -> str:
    cells = (_cell(line.cells[index], intervals) for index in chosen)
    return " & ".join([_escaped(line.result.method), *cells]) + r" \\"


def _cell(cell: Cell, interval: bool) -> str:
    text = _escaped(cell.text)
    marked = {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}.get(cell.mark, text)
    return rf"{marked} {{\scriptsize {_escaped(cell.interval)}}}" if interval and cell.interval else marked


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in visible(" ".join(text.split())))
