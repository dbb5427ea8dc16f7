"""The answers of the page: for each deciding measure the best method, with the figures that show it.

    best         the best mean
    tied         those that the paired test does not tell from it, or that are printed alike
    next         the best of the others
    control      the best of the maps that know neither the network nor the evidence
    oracle       the known evidence itself

Each line has the mean with its interval, and its difference from the best method on the same images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.compare import Difference, all_differences
from xaikit.report.numbers.tables import Table

Role = Literal["", "best", "tied", "next", "best control", "known evidence"]

_TIES = 3  # largest number of lines for methods that are tied with the best
_NAMED = 5
_QUESTIONS = {
    "keep_auc_soft": (
        "How much of the class survives when the image is dimmed by the map?",
        "A bright map dims little, so brightness alone is rewarded: read every soft figure beside the map mean.",
    ),
    "keep_auc_binary": (
        "Does the map put the right pixels first?",
        "Kept pixels stay as they are, so only their order counts, and a bright map gains nothing.",
    ),
}


@dataclass(frozen=True)
class AnswerLine:
    """One line of an answer as it is printed: the mean with its interval, and the difference from the best method.

    `test` is the interval and the p of the difference; both are "" for the best method itself.
    """

    method: str
    role: Role
    value: str
    interval: str
    difference: str
    test: str
    map_mean: str

    @property
    def is_method(self) -> bool:
        """Whether it is a method, not a control."""
        return self.role in ("", "best", "tied", "next")


@dataclass(frozen=True)
class Answer:
    """The answer of one measure.

    Args:
        column: the measure.
        question: the question that it answers.
        meaning: how to read the answer.
        best: the best method and those that are tied with it.
        lines: the lines, best first.
        more: names of the tied methods without a line.
        control: name of the best control, if it does as well as the best method, else "".
    """

    column: Column
    question: str
    meaning: str
    best: tuple[str, ...]
    lines: tuple[AnswerLine, ...]
    more: tuple[str, ...]
    control: str


def answers(results: Sequence[Result], table: Table) -> tuple[Answer, ...]:
    """Return the answers of the columns that decide."""
    return tuple(
        _answer(results, table, column) for column in table.columns if column.decides and column.key in table.leaders
    )


def conclusion(given: Sequence[Answer]) -> str:
    """Return the answers in a sentence, and where a control does as well in another; "" without any answer."""
    doubtful = [
        f"by {answer.column.name} the control {answer.control} does as well" for answer in given if answer.control
    ]
    doubt = f" But {' and '.join(doubtful)}." if doubtful else ""
    return f"{_best(given)}{doubt}" if given else ""


def _best(given: Sequence[Answer]) -> str:
    if not any(answer.lines[0].role for answer in given):
        parts = [
            f"{answer.column.name} {answer.lines[0].value} {answer.lines[0].interval}"
            + "".join(f", best control {line.value}" for line in answer.lines if line.role == "best control")
            for answer in given
        ]
        return f"{given[0].best[0]}: {'; '.join(parts)}."
    if len(given) == 1:
        return f"Best by {given[0].column.name}: {_with_ties(given[0].best)}."
    both = [method for method in given[0].best if all(method in answer.best for answer in given)]
    if both:
        measures = " and by ".join(answer.column.name for answer in given)
        return f"Best by {measures}, or tied with the best: {listed(both)}."
    parts = [f"{answer.column.name}: {_with_ties(answer.best)}" for answer in given]
    return f"The answers differ. By {'; by '.join(parts)}."


def listed(names: Sequence[str]) -> str:
    """Return names as words; many are counted."""
    shown = list(names) if len(names) <= _NAMED else [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _with_ties(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{listed(names)}, which are tied"


def _answer(results: Sequence[Result], table: Table, column: Column) -> Answer:
    index = table.columns.index(column)
    known = [result for result in results if not math.isnan(result.mean(column.key))]
    known.sort(key=lambda result: _rank(column, result))
    methods = [result for result in known if not result.is_control]
    marks = {line.result.method: line.cells[index].mark for line in table.methods}
    leader = table.leaders[column.key].best
    alike = "best" not in marks.values()  # all are printed alike, or there is one
    ties = [method for method in methods if method.method != leader and (alike or marks[method.method] == "best")]
    blind = [one for one in known if one.is_control and not one.is_evidence]
    first: Role = "best" if len(methods) > 1 else ""
    lines: list[tuple[Role, Result]] = [(first, one) for one in methods if one.method == leader]
    lines += [("tied", method) for method in ties[:_TIES]]
    lines += [("next", one) for one in methods if one.method != leader and one not in ties][:1]
    lines += [("best control", one) for one in blind[:1]]
    lines += [("known evidence", one) for one in known if one.is_evidence and one.method == "oracle"]
    differences = {one.method: one for one in all_differences(results, column, table.pairs[column.key])[leader]}
    question, meaning = _QUESTIONS.get(column.key, (column.meaning, ""))
    return Answer(
        column,
        question,
        meaning,
        (leader, *(method.method for method in ties)),
        tuple(_line(column, role, one, differences.get(one.method)) for role, one in lines),
        tuple(method.method for method in ties[_TIES:]),
        "".join(one.method for one in blind[:1] if _rank(column, one) <= _rank(column, methods[0])),
    )


def _rank(column: Column, result: Result) -> float:
    return column.rank(result.mean(column.key))


def _line(column: Column, role: Role, result: Result, difference: Difference | None) -> AnswerLine:
    return AnswerLine(
        result.method,
        role,
        column.text(result.mean(column.key)),
        column.interval(*result.interval(column.key)),
        "" if difference is None else "+" * (difference.mean > 0) + column.text(difference.mean),
        "" if difference is None else f"{column.interval(difference.low, difference.high)}{_p(difference.p)}",
        column.text(result.mean("map_mean")) if column.key in _QUESTIONS else "",
    )


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    return ", p < .001" if p < 0.001 else f", p = {p:.2g}".replace("= 0.", "= .")
