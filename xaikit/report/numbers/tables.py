"""The summary table: one line per method, one column per measure; controls and known evidence in separate blocks.

    results -> columns with values -> cells with text, interval, and marks among the methods (never controls)

Marks: best, also for methods that the paired test cannot distinguish from the best (Holm over the methods, 5 %) or that
are printed alike; second, the next after them; `beaten` if some control does as well or better, as a caution to the
reader. The oracle does not count there: it is the evidence itself, so it may win under a sound measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import Literal

from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import Column, Measures, shown_columns
from xaikit.report.numbers.compare import Leader, compared, leaders
from xaikit.report.numbers.gather import Name
from xaikit.report.numbers.pairs import Pairs

Mark = Literal["best", "second", ""]

_LEVEL = 0.05
_INFORMED = "oracle"  # the control that is the evidence itself
_NAN = float("nan")


@dataclass(frozen=True)
class Cell:
    """One number as it is printed, with its mark.

    Args:
        text: the mean.
        mark: "best", "second" or "".
        beaten: whether some control does as well or better.
        hint: explanation of the marks, or "".
        interval: 95 % interval of the mean; a dash for a single image, "" for costs.
        tied: whether it is marked best because the paired test cannot distinguish it from the best.
        p: Holm-corrected p of no difference from the column's best; NaN for the best itself, controls and costs.
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
    """The summary table of one dataset and model.

    Args:
        columns: columns with a value for some method.
        methods: lines of the methods.
        controls: lines of the controls, which know neither the network nor the evidence.
        evidence: lines of the oracle and the anti-oracle.
        warnings: one sentence for each column in which a control does as well as every method.
        pairs: comparison of all pairs of results under each ranked column, by key.
        leaders: the leader of each ranked column that has values, by key.
    """

    columns: tuple[Column, ...]
    methods: tuple[Line, ...]
    controls: tuple[Line, ...]
    evidence: tuple[Line, ...]
    warnings: tuple[str, ...]
    pairs: dict[str, Pairs]
    leaders: dict[str, Leader]

    @property
    def blocks(self) -> dict[str, tuple[Line, ...]]:
        """The lines by their heading, without empty blocks."""
        named = {"methods": self.methods, "controls": self.controls, "known evidence": self.evidence}
        return {name: lines for name, lines in named.items() if lines}

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Header of each group of columns and the number of columns it spans."""
        return tuple((name, len(list(same))) for name, same in groupby(self.columns, key=lambda column: column.group))

    def parts(self, most: int) -> list[Table]:
        """Return the table as several that stand below each other, each with at most `most` columns."""
        count = max(1, -(-len(self.columns) // most))
        ends = [place * len(self.columns) // count for place in range(count + 1)]
        return [self._between(start, end) for start, end in pairwise(ends)]

    def _between(self, start: int, end: int) -> Table:
        methods, controls, evidence = (
            tuple(replace(line, cells=line.cells[start:end]) for line in lines)
            for lines in (self.methods, self.controls, self.evidence)
        )
        columns = self.columns[start:end]
        return replace(self, columns=columns, methods=methods, controls=controls, evidence=evidence)

    @property
    def starts(self) -> frozenset[int]:
        """Indices of the columns that begin a group."""
        return frozenset(accumulate((span for _, span in self.groups), initial=0))


Tables = Mapping[Name, Table]
"""The table of each dataset and model."""


def summary_table(results: Sequence[Result], measures: Measures | None = None) -> Table:
    """Return the table of the results of one dataset and model.

    Args:
        results: results of methods and controls.
        measures: the measures of the suite; one that is missing here is shown without ranks.
    """
    columns = shown_columns(results, measures)
    methods = [result for result in results if not result.is_control]
    controls = [result for result in results if result.is_control]
    beaters = [control for control in controls if control.method != _INFORMED]
    pairs = compared(results, columns)
    best = leaders(results, columns, pairs)
    marked = [_cells(column, methods, beaters, best.get(column.key)) for column in columns]
    blind = [control for control in controls if not control.is_evidence]
    evidence = [control for control in controls if control.is_evidence]
    return Table(
        columns=columns,
        methods=_lines(methods, marked),
        controls=_unmarked(blind, columns),
        evidence=_unmarked(evidence, columns),
        warnings=tuple(filter(None, (_warning(column, methods, beaters) for column in columns))),
        pairs=pairs,
        leaders=best,
    )


def _lines(results: Sequence[Result], by_column: Sequence[Sequence[Cell]]) -> tuple[Line, ...]:
    return tuple(Line(result, tuple(cells[index] for cells in by_column)) for index, result in enumerate(results))


def _unmarked(results: Sequence[Result], columns: Sequence[Column]) -> tuple[Line, ...]:
    return _lines(results, [[_plain(column, result) for result in results] for column in columns])


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
        better = [
            _called(control)
            for control in controls
            if column.rank(control.mean(column.key)) <= ranks[method] != float("inf")
        ]
        hints = [_tie_hint(leader, method)] if method in tied else []
        hints += [f"no better than {', '.join(better)}"] if better else []
        text, interval = column.text(result.mean(column.key)), _interval(column, result)
        cells.append(Cell(text, marks[method], bool(better), "; ".join(hints), interval, method in tied, p))
    return cells


def _called(control: Result) -> str:
    return f"the {control.method}" if control.is_evidence else f"the control {control.method}"


def _tie_hint(leader: Leader, method: str) -> str:
    p, count = leader.p[method], leader.pairs[method]
    return f"not distinguished from {leader.best}: p = {p:.2g} over {count} image{'s' if count > 1 else ''}"


def _marks(ranks: Mapping[str, float], best: str, tied: set[str]) -> dict[str, Mark]:
    """Return the mark of each method; no marks if all methods are printed alike."""
    if len({rank for rank in ranks.values() if rank != float("inf")}) < 2:
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

    def rank(result: Result) -> float:
        return column.rank(result.mean(column.key))

    method, control = min(methods, key=rank), min(controls, key=rank)
    if not rank(control) <= rank(method) != float("inf"):
        return ""
    verb = "ties with" if rank(control) == rank(method) else "beats"
    return (
        f"{column.name}: {_called(control)} {verb} every method, "
        f"{column.text(control.mean(column.key))} against {column.text(method.mean(column.key))} for {method.method}. "
        "By itself this number does not distinguish an explanation from none."
    )
