"""The page and tables of a benchmark's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xaikit.report.numbers.read import Benchmark
    from xaikit.report.page.block import Block


def write_report(folder: str | Path) -> Path:
    """Write report.html, summary.csv and summary.tex of a benchmark's folder from its rows; needs no model.

    Returns:
        The path of report.html.

    Raises:
        BadInput: the folder has no rows, or a file is not what it should be.
    """
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.runs.telling import tell

    folder = Path(folder)
    write_all(folder, read_benchmark(folder), tell)
    return folder / "report.html"


def write_all(folder: Path, benchmark: Benchmark, notice: Callable[[str], None]) -> list[Block]:
    """Write report.html, summary.csv and summary.tex to the results folder and return the blocks of the page.

    Args:
        folder: the results folder.
        benchmark: its rows.
        notice: called with one line for each kind of rows that is left out.
    """
    from xaikit.report.numbers.export import write_summaries
    from xaikit.report.numbers.read import listed_pictures
    from xaikit.report.page.page import write_report as write_page

    for line in benchmark.run.get("left_out", ()):
        notice(line)
    blocks = write_page(
        folder / "report.html",
        benchmark.summaries,
        benchmark.rows_of,
        benchmark.run,
        listed_pictures(folder),
        directions=benchmark.directions,
    )
    write_summaries(folder, {(block.dataset, block.model): block.table for block in blocks})
    return blocks
