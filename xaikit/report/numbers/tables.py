"""The summary table: one line a method, one column a measure, controls in a block of their own.

    results -> columns that have values -> cells with text, interval, and marks among the methods (never controls)

Marks: best, also for those that the paired test does not tell apart from the best (Holm over the methods, 5 %) and for
those printed alike; second, the next after them; `beaten` where some control does as well or better, so that nobody
reads the number alone. The oracle is told the evidence: that it wins says nothing against a measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Literal

from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import Column, shown_columns
from xaikit.report.numbers.compare import Leader, leaders

Mark = Literal["best", "second", ""]

_LEVEL = 0.05
_INFORMED = "oracle"  # the control that is told the evidence, and may well beat every method
_NAN = float("nan")


@dataclass(frozen=True)
class Cell:
    """One number as it is printed, with its mark.

    Args:
        text: the mean.
        mark: best, second or neither.
        beaten: some control does as well or better.
        hint: what to say about the marks, or "".
        interval: the 95 % interval of the mean; a dash with one image, "" where costs stand.
        tied: marked best because the paired test does not tell it from the best.
        p: of no difference from the best of the column, by Holm; NaN for the best itself, controls and costs.
    """

    text: str
    mark: Mark = ""
    beaten: bool = False
    hint: str = ""
    interval: str = ""
    tied: bool = False
    p: float = _NAN


@dataclass(frozen=True)
class Line:
    """One method's cells, in the order of the columns."""

    result: Result
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """What is shown.

    Args:
        columns: those with a value for some method.
        groups: headers above them, with how many they span.
        methods: lines of the methods.
        controls: lines of the controls.
        warnings: one sentence a column that a control wins.
    """

    columns: tuple[Column, ...]
    groups: tuple[tuple[str, int], ...]
    methods: tuple[Line, ...]
    controls: tuple[Line, ...]
    warnings: tuple[str, ...]

    @property
    def starts(self) -> frozenset[int]:
        """Places of the columns that begin a group."""
        return frozenset(accumulate((span for _, span in self.groups), initial=0))


def summary_table(results: Sequence[Result], directions: Mapping[str, str] | None = None) -> Table:
    """Return the table of the results of one dataset and model.

    Args:
        results: of the methods and controls.
        directions: by measure, which way is better; a measure that is not among them is shown and not ranked.
    """
    columns = shown_columns(results, directions)
    methods = [result for result in results if not result.is_control]
    controls = [result for result in results if result.is_control]
    blind = [control for control in controls if control.method != _INFORMED]
    led = leaders(results, columns)
    marked = [_cells(column, methods, blind, led.get(column.key)) for column in columns]
    plain = [[_plain(column, result) for result in controls] for column in columns]
    return Table(
        columns=columns,
        groups=tuple((name, len(list(same))) for name, same in groupby(columns, key=lambda column: column.group)),
        methods=_lines(methods, marked),
        controls=_lines(controls, plain),
        warnings=tuple(filter(None, (_warning(column, methods, blind) for column in columns))),
    )


def _lines(results: Sequence[Result], by_column: Sequence[Sequence[Cell]]) -> tuple[Line, ...]:
    return tuple(Line(result, tuple(cells[place] for cells in by_column)) for place, result in enumerate(results))


def _plain(column: Column, result: Result) -> Cell:
    return Cell(column.text(result.mean(column.key)), interval=_interval(column, result))


def _interval(column: Column, result: Result) -> str:
    return "" if column.is_cost else column.interval(*result.interval(column.key))


def _cells(column: Column, methods: Sequence[Result], controls: Sequence[Result], leader: Leader | None) -> list[Cell]:
    if leader is None:
        return [_plain(column, result) for result in methods]
    ranks = {result.method: column.rank(result.mean(column.key)) for result in methods}
    tied = {method for method, p in leader.p.items() if p >= _LEVEL and ranks[method] != ranks[leader.best]}
    marks = _marks(ranks, leader.best, tied)
    cells = []
    for result in methods:
        method, p = result.method, leader.p.get(result.method, _NAN)
        by = [one.method for one in controls if column.rank(one.mean(column.key)) <= ranks[method] != float("inf")]
        hints = [_doubt(leader, method)] if method in tied else []
        hints += [f"no better than the control {', '.join(by)}"] if by else []
        text, interval = column.text(result.mean(column.key)), _interval(column, result)
        cells.append(Cell(text, marks[method], bool(by), "; ".join(hints), interval, method in tied, p))
    return cells


def _doubt(leader: Leader, method: str) -> str:
    count = leader.pairs[method]
    return f"not told apart from {leader.best}: p = {leader.p[method]:.2g} over {count} image{'s' if count > 1 else ''}"


def _marks(ranks: Mapping[str, float], best: str, tied: set[str]) -> dict[str, Mark]:
    """Return the marks by method; there are none where all are printed alike."""
    places = {rank for rank in ranks.values() if rank != float("inf")}
    if len(places) < 2:
        return dict.fromkeys(ranks, "")
    first = {method for method, rank in ranks.items() if rank == ranks[best]} | tied
    second = min((rank for method, rank in ranks.items() if method not in first), default=float("inf"))

    def mark(method: str) -> Mark:
        if method in first:
            return "best"
        return "second" if ranks[method] == second != float("inf") else ""

    return {method: mark(method) for method in ranks}


def _warning(column: Column, methods: Sequence[Result], controls: Sequence[Result]) -> str:
    if not (column.ranked and methods and controls):
        return ""

    def best(among: Sequence[Result]) -> Result:
        return min(among, key=lambda result: column.rank(result.mean(column.key)))

    method, control = best(methods), best(controls)
    ours, theirs = method.mean(column.key), control.mean(column.key)
    if not column.rank(theirs) <= column.rank(ours) != float("inf"):
        return ""
    verb = "ties with" if column.rank(theirs) == column.rank(ours) else "beats"
    return (
        f"{column.title} ({column.group}): the control {control.method} {verb} every method, "
        f"{column.text(theirs)} against {column.text(ours)} for {method.method}. "
        "By itself this number does not tell an explanation from none."
    )
