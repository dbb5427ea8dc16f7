"""The summary table: one line a method, one column a measure, controls in a block of their own.

    results -> columns that have values -> cells with text, and marks among the methods (controls never get one)

Marks: best, second; `beaten` where some control does as well or better, so that nobody reads the number alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Literal, cast, get_args

from xaikit.report.aggregate import Result

__all__ = ["COLUMNS", "Cell", "Column", "Line", "Table", "summary_table"]

Direction = Literal["higher", "lower", "none"]
Mark = Literal["best", "second", ""]

_ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", "none": ""}


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: name among a result's scalars.
        title: its header.
        group: the header above it.
        direction: which way is better; "none" is not better either way.
        digits: after the point.
        meaning: one sentence for the reader.
        ranked: whether best and second are marked.
    """

    key: str
    title: str
    group: str
    direction: Direction
    digits: int
    meaning: str
    ranked: bool = True

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return _ARROWS[self.direction]

    def text(self, value: float) -> str:
        """Return a value as it is printed; a dash where there is none."""
        if value != value:
            return "\N{EN DASH}"
        text = f"{value:.{self.digits}f}"
        return text.removeprefix("0") if self.digits > 1 and text.startswith("0.") else text

    def rank(self, value: float) -> float:
        """Return what sorts best first; equal when printed alike, NaN last."""
        if value != value:
            return float("inf")
        shown = round(value, self.digits)
        return -shown if self.direction == "higher" else shown


_SOFT = "soft masks"
_BINARY = "binary masks"
_EVIDENCE = "known evidence"
_COST = "cost an image"
_MORE = "more measures"
_SHOWN = {
    *("api", "apd", "ir", "dr", "tie-rate", "mean-map", "keep-auc", "keep-auc-soft", "keep-auc-binary"),
    *("pointing-game", "energy-inside"),
}
"""Labels of measures that a column shows already."""

COLUMNS = (
    Column("keep_auc_soft", "KeepAUC", _SOFT, "higher", 3, "Area under the confidence left over all thresholds."),
    Column("api", "API", _SOFT, "higher", 3, "Average relative rise of confidence under the whole map (t = 0)."),
    Column("apd", "APD", _SOFT, "lower", 3, "Average relative drop of confidence under the whole map (t = 0)."),
    Column("ir", "IR", _SOFT, "higher", 3, "Share of images whose confidence rises (t = 0)."),
    Column("dr", "DR", _SOFT, "lower", 3, "Share of images whose confidence drops (t = 0)."),
    Column("ties", "ties", _SOFT, "none", 3, "Share of images that do neither (t = 0).", ranked=False),
    Column("map_mean", "map mean", _SOFT, "none", 3, "A brighter map hides less of the image.", ranked=False),
    Column("keep_auc_binary", "KeepAUC", _BINARY, "higher", 3, "The same area when kept pixels stay as they are."),
    Column("pointing", "pointing", _EVIDENCE, "higher", 3, "Share of maps whose highest point lies on the evidence."),
    Column("energy_inside", "energy", _EVIDENCE, "higher", 3, "Share of the map's sum that lies on it."),
    Column("ms", "ms", _COST, "lower", 1, "Milliseconds to explain one image of a batch.", ranked=False),
    Column("forwards", "forwards", _COST, "lower", 1, "Images sent through the network.", ranked=False),
    Column("backwards", "backwards", _COST, "lower", 1, "Images sent back through it, or its tail.", ranked=False),
)


@dataclass(frozen=True)
class Cell:
    """One number as it is printed, with its mark."""

    text: str
    mark: Mark = ""
    beaten: bool = False
    hint: str = ""


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
        directions: by measure, which way is better; those that no column shows get one of their own.
    """
    results = [replace(one, scalars=one.scalars | _measured(one)) for one in results]
    place = next(place for place, column in enumerate(COLUMNS) if column.group == _COST)
    columns = tuple(
        column
        for column in (*COLUMNS[:place], *_measure_columns(directions or {}), *COLUMNS[place:])
        if any(_known(r.scalars.get(column.key)) for r in results)
    )
    methods = [result for result in results if not result.is_control]
    controls = [result for result in results if result.is_control]
    marked = [_cells(column, methods, controls) for column in columns]
    plain = [[Cell(column.text(result.scalars[column.key])) for result in controls] for column in columns]
    return Table(
        columns=columns,
        groups=tuple((name, len(list(same))) for name, same in groupby(columns, key=lambda column: column.group)),
        methods=_lines(methods, marked),
        controls=_lines(controls, plain),
        warnings=tuple(filter(None, (_warning(column, methods, controls) for column in columns))),
    )


def _measured(result: Result) -> dict[str, float]:
    return {f"measure.{name}": value for name, value in result.measures.items()}


def _measure_columns(directions: Mapping[str, str]) -> list[Column]:
    found = []
    for name, given in directions.items():
        if name not in _SHOWN and given in get_args(Direction):
            direction = cast("Direction", given)
            meaning = f"Mean of {name}."
            found.append(Column(f"measure.{name}", name, _MORE, direction, 3, meaning, ranked=direction != "none"))
    return found


def _known(value: float | None) -> bool:
    return value is not None and value == value


def _lines(results: Sequence[Result], by_column: Sequence[Sequence[Cell]]) -> tuple[Line, ...]:
    return tuple(Line(result, tuple(cells[place] for cells in by_column)) for place, result in enumerate(results))


def _cells(column: Column, methods: Sequence[Result], controls: Sequence[Result]) -> list[Cell]:
    if not column.ranked:
        return [Cell(column.text(result.scalars[column.key])) for result in methods]
    ranks = [column.rank(result.scalars[column.key]) for result in methods]
    places = sorted(rank for rank in set(ranks) if rank != float("inf"))
    order: tuple[Mark, Mark] = ("best", "second")
    marks = dict(zip(places, order, strict=False)) if len(places) > 1 else {}
    return [
        Cell(column.text(result.scalars[column.key]), marks.get(rank, ""), *_beaten(column, rank, controls))
        for result, rank in zip(methods, ranks, strict=True)
    ]


def _beaten(column: Column, rank: float, controls: Sequence[Result]) -> tuple[bool, str]:
    """Say whether some control does at least as well, and which."""
    by = [control.method for control in controls if column.rank(control.scalars[column.key]) <= rank != float("inf")]
    return bool(by), f"no better than the control {', '.join(by)}" if by else ""


def _warning(column: Column, methods: Sequence[Result], controls: Sequence[Result]) -> str:
    if not (column.ranked and methods and controls):
        return ""

    def best(among: Sequence[Result]) -> Result:
        return min(among, key=lambda result: column.rank(result.scalars[column.key]))

    method, control = best(methods), best(controls)
    ours, theirs = method.scalars[column.key], control.scalars[column.key]
    if not column.rank(theirs) <= column.rank(ours) != float("inf"):
        return ""
    verb = "ties with" if column.rank(theirs) == column.rank(ours) else "beats"
    return (
        f"{column.title} ({column.group}): the control {control.method} {verb} every method, "
        f"{column.text(theirs)} against {column.text(ours)} for {method.method}. "
        "By itself this number does not tell an explanation from none."
    )
