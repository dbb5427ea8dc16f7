"""`xaikit report DIR`: writes report.html, summary.csv and summary.tex from rows; needs no model and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.lines import say, tell


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `xaikit benchmark` wrote.")],
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Columns of summary.tex, in order. Default: all.")
    ] = None,
    caption: Annotated[str, typer.Option("--caption", help="Caption of the tables in summary.tex.")] = "",
    intervals: Annotated[
        bool, typer.Option("--intervals/--no-intervals", help="Intervals beside the means in summary.tex.")
    ] = True,
) -> None:
    """Rebuild the report of a benchmark from its rows."""
    from xaikit.report.numbers.latex import Latex
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.runs.page import write_all

    latex = Latex([] if columns is None else columns.split(","), caption, intervals)
    benchmark = read_benchmark(folder)
    write_all(folder, benchmark, tell, latex)
    say(f"{len(benchmark):,} rows; see {folder / 'report.html'}")
