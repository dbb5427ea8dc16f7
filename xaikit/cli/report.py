"""`xaikit report DIR`: rows become report.html, summary.csv and summary.tex; needs no model and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `xaikit benchmark` wrote.")],
) -> None:
    """Rebuild the report of a benchmark from its rows."""
    rows = write_all(folder)
    typer.echo(f"{rows:,} rows; see {folder / 'report.html'}")


def write_all(folder: Path) -> int:
    """Write report.html, summary.csv and summary.tex beside the rows; return how many rows there are."""
    from xaikit.report.numbers.export import write_summaries
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.report.page.page import write_report

    found = read_benchmark(folder)
    write_report(folder / "report.html", found.rows, found.run, found.pictures, directions=found.directions)
    write_summaries(folder, found.rows, found.directions)
    return len(found.rows)
