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
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.runs.page import write_all

    benchmark = read_benchmark(folder)
    write_all(folder, benchmark, tell)
    say(f"{len(benchmark):,} rows; see {folder / 'report.html'}")
