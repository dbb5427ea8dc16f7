"""`xaikit report DIR`: writes report.html, summary.csv and summary.tex from rows; needs no model and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.lines import say, tell


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `xaikit benchmark` wrote.")],
) -> None:
    """Rebuild the report of a benchmark from its rows."""
    rows = write_all(folder)
    say(f"{rows:,} rows; see {folder / 'report.html'}")


def write_all(folder: Path) -> int:
    """Write report.html, summary.csv and summary.tex to the results folder and return the number of rows."""
    from xaikit.report.numbers.export import write_summaries
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.report.page.page import write_report

    benchmark = read_benchmark(folder)
    for line in benchmark.run.get("left_out", ()):
        tell(line)
    rows, directions = benchmark.rows, benchmark.directions
    write_report(folder / "report.html", rows, benchmark.run, benchmark.pictures, directions=directions)
    write_summaries(folder, rows, directions)
    return len(rows)
