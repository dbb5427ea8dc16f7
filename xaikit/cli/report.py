"""`xaikit report DIR`: writes report.html, summary.csv and summary.tex from rows; needs no model and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xaikit.cli.lines import say, tell

if TYPE_CHECKING:
    from xaikit.report.numbers.read import Benchmark
    from xaikit.report.page.block import Block


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `xaikit benchmark` wrote.")],
) -> None:
    """Rebuild the report of a benchmark from its rows."""
    from xaikit.report.numbers.read import read_benchmark

    benchmark = read_benchmark(folder)
    write_all(folder, benchmark)
    say(f"{len(benchmark):,} rows; see {folder / 'report.html'}")


def write_all(folder: Path, benchmark: Benchmark) -> list[Block]:
    """Write report.html, summary.csv and summary.tex to the results folder and return the blocks of the page."""
    from xaikit.report.numbers.export import write_summaries
    from xaikit.report.numbers.read import listed_pictures
    from xaikit.report.page.page import write_report

    for line in benchmark.run.get("left_out", ()):
        tell(line)
    blocks = write_report(
        folder / "report.html",
        benchmark.summaries,
        benchmark.rows_of,
        benchmark.run,
        listed_pictures(folder),
        directions=benchmark.directions,
    )
    write_summaries(folder, {(block.dataset, block.model): block.table for block in blocks})
    return blocks
