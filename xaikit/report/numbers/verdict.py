"""The two questions of the page, each with who leads in it, side by side so that neither is read alone.

soft masks      the map dims the image: what is left of the class? A bright map has it easier
binary masks    the highest pixels stay as they are: does the map order the pixels rightly?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xaikit.report.numbers.aggregate import Mask, Result
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.tables import Table

_LEADERS = 3
_NAMED = 5
_KNOWING = "oracle"  # the control that is the evidence itself
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
    """One line below a question: a method's area with its interval, and how bright its maps are."""

    method: str
    value: str
    interval: str
    map_mean: str
    control: bool


@dataclass(frozen=True)
class Verdict:
    """One question and who answers it best.

    Args:
        mask: the kind of masks.
        question: what these masks ask.
        meaning: how to read the answer.
        leaders: the first methods, best first, then the best control that knows nothing.
    """

    mask: Mask
    question: str
    meaning: str
    leaders: tuple[Leader, ...]


def verdicts(results: Sequence[Result], table: Table) -> tuple[Verdict, ...]:
    """Return both questions, where there are values."""
    return tuple(
        Verdict(mask, question, meaning, _leaders(results, column))
        for mask, question, meaning in _QUESTIONS
        if (column := _column(table, mask)) is not None
    )


def conclusion(results: Sequence[Result], table: Table) -> str:
    """Say in a sentence whether both questions have the same answer."""
    columns = [_column(table, mask) for mask, *_ in _QUESTIONS]
    methods = [result for result in results if not result.is_control]
    if None in columns or len(methods) < 2:
        return ""
    soft, binary = (_best(table, column) for column in columns if column is not None)
    if not (soft and binary):
        return ""
    both = [method for method in soft if method in binary]
    if both:
        return f"Best under both, or not told apart from the best: {_listed(both)}."
    return f"The answers differ. Soft masks: {_listed(soft)}. Binary masks: {_listed(binary)}."


def _column(table: Table, mask: Mask) -> Column | None:
    return next((column for column in table.columns if column.key == f"keep_auc_{mask}"), None)


def _best(table: Table, column: Column) -> list[str]:
    """Return the methods that the table marks best: the first, and those that the paired test does not tell from it."""
    place = table.columns.index(column)
    return [line.result.method for line in table.methods if line.cells[place].mark == "best"]


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= _NAMED else [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _leaders(results: Sequence[Result], column: Column) -> tuple[Leader, ...]:
    known = sorted(
        (one for one in results if one.mean(column.key) == one.mean(column.key)),
        key=lambda one: column.rank(one.mean(column.key)),
    )
    methods = [one for one in known if not one.is_control][:_LEADERS]
    controls = [one for one in known if one.is_control and one.method != _KNOWING][:1]
    return tuple(
        Leader(
            one.method,
            column.text(one.mean(column.key)),
            column.interval(*one.interval(column.key)),
            column.text(one.mean("map_mean")),
            one.is_control,
        )
        for one in (*methods, *controls)
    )
