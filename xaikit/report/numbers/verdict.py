"""The two questions of the page and the methods that lead in each, side by side so that neither is read alone.

soft masks      the map dims the image: how much of the class is left? Bright maps have an advantage
binary masks    the highest pixels stay as they are: does the map put the pixels in the right order?
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xaikit.report.numbers.aggregate import Mask, Result
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.tables import Table

_LEADERS = 3
_NAMED = 5
_INFORMED = "oracle"  # the control that is the evidence itself
_QUESTIONS: tuple[tuple[Mask, str, str], ...] = (
    (
        "soft",
        "How much of the class survives when the image is dimmed by the map?",
        "A bright map dims little, so brightness alone is rewarded: read every soft figure beside the map mean.",
    ),
    (
        "binary",
        "Does the map put the right pixels first?",
        "Kept pixels stay as they are, so only their order counts, and a bright map gains nothing.",
    ),
)


@dataclass(frozen=True)
class Leader:
    """One line below a question: the KeepAUC of a method with its interval, and the mean of its maps."""

    method: str
    value: str
    interval: str
    map_mean: str
    control: bool


@dataclass(frozen=True)
class Verdict:
    """One question and the methods that lead in it.

    Args:
        mask: kind of masks.
        question: the question that these masks answer.
        meaning: how to read the answer.
        leaders: the best methods, best first, then the best control other than the oracle.
    """

    mask: Mask
    question: str
    meaning: str
    leaders: tuple[Leader, ...]


def verdicts(results: Sequence[Result], table: Table) -> tuple[Verdict, ...]:
    """Return the questions for which the table has values."""
    return tuple(
        Verdict(mask, question, meaning, _leaders(results, column))
        for mask, question, meaning in _QUESTIONS
        if (column := _column(table, mask)) is not None
    )


def conclusion(results: Sequence[Result], table: Table) -> str:
    """Return a sentence that says whether both questions have the same answer, or ""."""
    columns = [_column(table, mask) for mask, *_ in _QUESTIONS]
    methods = [result for result in results if not result.is_control]
    if None in columns or len(methods) < 2:
        return ""
    soft, binary = (_best(table, column) for column in columns if column is not None)
    if not (soft and binary):
        return ""
    both = [method for method in soft if method in binary]
    if both:
        return f"Best under both, or not distinguished from the best: {_listed(both)}."
    return f"The answers differ. Soft masks: {_listed(soft)}. Binary masks: {_listed(binary)}."


def _column(table: Table, mask: Mask) -> Column | None:
    return next((column for column in table.columns if column.key == f"keep_auc_{mask}"), None)


def _best(table: Table, column: Column) -> list[str]:
    index = table.columns.index(column)
    return [line.result.method for line in table.methods if line.cells[index].mark == "best"]


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= _NAMED else [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _leaders(results: Sequence[Result], column: Column) -> tuple[Leader, ...]:
    known = [result for result in results if not math.isnan(result.mean(column.key))]
    known.sort(key=lambda result: column.rank(result.mean(column.key)))
    methods = [result for result in known if not result.is_control][:_LEADERS]
    controls = [result for result in known if result.is_control and result.method != _INFORMED][:1]
    return tuple(
        Leader(
            result.method,
            column.text(result.mean(column.key)),
            column.interval(*result.interval(column.key)),
            column.text(result.mean("map_mean")),
            result.is_control,
        )
        for result in (*methods, *controls)
    )
