"""The cross table of several models or data sets: the methods by models and data sets, for each deciding measure.

    tables -> value, interval and mark of each method in each of them -> mean rank, which orders the methods

Values of different models or data sets are never averaged; ranks are, over all of them (1 is best, equal means share
their mean rank). A method without a value somewhere has no mean rank.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xaikit.report.numbers.answers import listed
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.compare import rank_matrix
from xaikit.report.numbers.tables import Cell, Line, Tables

_UNKNOWN = Cell("\N{EN DASH}")


@dataclass(frozen=True)
class CrossLine:
    """One method: its cell in each model and data set, and its mean rank, NaN where unknown and for controls."""

    method: str
    cells: tuple[Cell, ...]
    rank: float


@dataclass(frozen=True)
class CrossTable:
    """The values of one measure.

    Args:
        column: the measure.
        blocks: the lines by their heading: methods by their mean rank, controls, known evidence.
    """

    column: Column
    blocks: dict[str, tuple[CrossLine, ...]]

    @property
    def conclusion(self) -> str:
        """One sentence: which methods are best everywhere, or which has the lowest mean rank."""
        named, methods = self.column.name, self.blocks.get("methods", ())
        best = [line.method for line in methods if all(cell.mark == "best" for cell in line.cells)]
        if best:
            return f"Best by {named} everywhere, alone or tied: {listed(best)}."
        known = [line.rank for line in methods if not math.isnan(line.rank)]
        first = [line.method for line in methods if known and line.rank == min(known)]
        lowest = f" Lowest mean rank, {min(known):.3g}: {listed(first)}." if first else ""
        return f"No method is best by {named} in all of them.{lowest}"


def cross_tables(tables: Tables) -> tuple[CrossTable, ...]:
    """Return a table for each measure that decides in some model and data set."""
    columns = {column.key: column for table in tables.values() for column in table.columns if column.decides}
    return tuple(_cross_table(column, tables) for column in columns.values())


def _cross_table(column: Column, tables: Tables) -> CrossTable:
    ranks: dict[str, list[float]] = {}
    for table in tables.values():
        matrix = rank_matrix([line.result for line in table.methods], [column])
        for method, rank in zip(matrix.methods, matrix.ranks[:, 0].tolist(), strict=True):
            ranks.setdefault(method, []).append(rank)
    blocks: dict[str, list[str]] = {}
    for table in tables.values():
        for heading, lines in table.blocks.items():
            names = blocks.setdefault(heading, [])
            names += [line.result.method for line in lines if line.result.method not in names]
    by_method = [
        {line.result.method: _cell(column, table.columns, line) for lines in table.blocks.values() for line in lines}
        for table in tables.values()
    ]

    def line(method: str) -> CrossLine:
        own = ranks.get(method, [])
        mean = sum(own) / len(own) if len(own) == len(tables) else math.nan
        return CrossLine(method, tuple(cells.get(method, _UNKNOWN) for cells in by_method), mean)

    def order(line: CrossLine) -> float:
        return math.inf if math.isnan(line.rank) else line.rank

    headings = [heading for heading in ("methods", "controls", "known evidence") if heading in blocks]
    return CrossTable(column, {heading: tuple(sorted(map(line, blocks[heading]), key=order)) for heading in headings})


def _cell(column: Column, columns: Sequence[Column], line: Line) -> Cell:
    cells = {known.key: cell for known, cell in zip(columns, line.cells, strict=True)}
    return cells.get(column.key, _UNKNOWN)
