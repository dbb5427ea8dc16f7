"""The page and tables of a benchmark's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from xaikit.report.numbers.latex import Latex
    from xaikit.report.numbers.read import Benchmark
    from xaikit.report.page.block import Block


def write_report(folder: str | Path, *, columns: Sequence[str] = (), caption: str = "", intervals: bool = True) -> Path:
    """Write report.html, summary.csv and summary.tex of a benchmark's folder from its rows; needs no model.

    Args:
        folder: the results folder.
        columns: names of the columns of summary.tex, in order: those of measures, or of summary.csv; empty takes all.
        caption: caption of the tables in summary.tex as plain text, "" for none.
        intervals: whether each mean in summary.tex has its interval beside it.

    Returns:
        The path of report.html.

    Raises:
        BadInput: the folder has no rows, a file is not what it should be, or an argument is of another type.
        UnknownName: a name in `columns` is that of no column.
    """
    from xaikit.report.numbers.latex import Latex
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.runs.telling import tell

    folder = Path(folder)
    latex = Latex([columns] if isinstance(columns, str) else columns, caption, intervals)
    write_all(folder, read_benchmark(folder), tell, latex)
    return folder / "report.html"


def read_rows(folder: str | Path) -> pd.DataFrame:
    """Return the rows of a benchmark's report, one for each image, method and seed; needs no model.

    Rows of other weights, code or protocols that lie in the folder are left out, and a line for each kind is logged.

    Args:
        folder: the results folder.

    Returns:
        The columns of `benchmark/rows.py`, which the README lists, then `measure.NAME` for each measure.

    Raises:
        BadInput: the folder has no rows, or a file is not what it should be.
    """
    import pandas as pd

    from xaikit.report.numbers.read import read_benchmark
    from xaikit.runs.telling import tell

    benchmark = read_benchmark(Path(folder))
    for line in benchmark.run.get("left_out", ()):
        tell(line)
    return pd.DataFrame(benchmark.rows)


def write_all(
    folder: Path, benchmark: Benchmark, notice: Callable[[str], None], latex: Latex | None = None
) -> list[Block]:
    """Write report.html, summary.csv and summary.tex to the results folder and return the blocks of the page.

    Args:
        folder: the results folder.
        benchmark: its rows.
        notice: called with one line for each kind of rows that is left out.
        latex: what summary.tex shows; None is everything.

    Raises:
        UnknownName: `latex` names a column that is not there; nothing is written.
    """
    from xaikit.report.numbers.export import write_summaries
    from xaikit.report.numbers.read import listed_pictures
    from xaikit.report.page.page import page_blocks, write_page

    for line in benchmark.run.get("left_out", ()):
        notice(line)
    blocks = page_blocks(
        benchmark.summaries, benchmark.rows_of, benchmark.run, listed_pictures(folder), measures=benchmark.measures
    )
    write_summaries(folder, {(block.dataset, block.model): block.table for block in blocks}, latex)
    write_page(folder / "report.html", blocks, benchmark.run)
    return blocks
