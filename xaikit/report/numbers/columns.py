"""The columns of a report: which values are shown, how they are printed, and which direction is better.

    COLUMNS, then a column for every other measure of the rows -> columns with a value for some method

A key names a mean of a result: a scalar, or `measure.NAME`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from xaikit.report.numbers.aggregate import Result

Direction = Literal["higher", "lower", "none"]

_ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", "none": ""}
_NOTHING = "\N{EN DASH}"
_SOFT = "soft masks"
_BINARY = "binary masks"
_EVIDENCE = "known evidence"
_MORE = "more measures"
_COST = "cost per image"

QUESTIONS = {
    _SOFT: "How confident is the model when each pixel is dimmed by the map? "
    "A bright map dims little, which helps it, so read the map mean beside these.",
    _BINARY: "How confident is it when the highest pixels stay as they are and the others are removed? "
    "Only the order of the pixels counts, not the map's brightness.",
    _EVIDENCE: "Does the map lie on the pixels that are known to be the evidence?",
    _MORE: "What else was measured, each with its own direction.",
    _COST: "What does one explanation cost?",
}
"""The question that each group of columns answers."""


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: name of a mean of the results.
        title: header of the column.
        group: header of the group of columns.
        direction: the better direction; "none" if there is none.
        digits: number of decimals.
        meaning: explanation in one sentence.
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
        """The arrow of the better direction."""
        return _ARROWS[self.direction]

    @property
    def is_cost(self) -> bool:
        """Whether the column is a cost instead of a measure of quality."""
        return self.group == _COST

    def text(self, value: float) -> str:
        """Return a value as it is printed; a dash for NaN."""
        if value != value:
            return _NOTHING
        text = f"{round(value, self.digits) + 0.0:.{self.digits}f}"  # no minus before zero
        if self.digits > 1 and text.startswith(("0.", "-0.")):
            text = text.replace("0.", ".", 1)
        return text

    def interval(self, low: float, high: float) -> str:
        """Return an interval as it is printed; a dash if an end is NaN."""
        return f"[{self.text(low)}, {self.text(high)}]" if low == low and high == high else _NOTHING

    def order(self, value: float) -> float:
        """Return a sort key that puts the best value first and NaN last."""
        if value != value:
            return float("inf")
        return -value if self.direction == "higher" else value

    def rank(self, value: float) -> float:
        """Return `order` of the value as printed, so that values printed alike are equal."""
        return self.order(round(value, self.digits) if value == value else value)


COLUMNS = (
    Column("keep_auc_soft", "KeepAUC", _SOFT, "higher", 3, "Area under the confidence left over all thresholds."),
    Column("api", "API", _SOFT, "higher", 3, "Average relative rise of confidence under the whole map (t = 0)."),
    Column("apd", "APD", _SOFT, "lower", 3, "Average relative drop of confidence under the whole map (t = 0)."),
    Column("ir", "IR", _SOFT, "higher", 3, "Share of images whose confidence rises (t = 0)."),
    Column("dr", "DR", _SOFT, "lower", 3, "Share of images whose confidence drops (t = 0)."),
    Column("ties", "ties", _SOFT, "none", 3, "Share of images that do neither (t = 0).", ranked=False),
    Column("map_mean", "map mean", _SOFT, "none", 3, "A brighter map hides less of the image.", ranked=False),
    Column("keep_auc_binary", "KeepAUC", _BINARY, "higher", 3, "The same area when kept pixels stay as they are."),
    Column("api_mean_binary", "API", _BINARY, "higher", 3, "Average relative rise, mean over the thresholds below 1."),
    Column("apd_mean_binary", "APD", _BINARY, "lower", 3, "Average relative drop, mean over the thresholds below 1."),
    Column("ir_mean_binary", "IR", _BINARY, "higher", 3, "Share of rises, mean over the thresholds below 1."),
    Column("dr_mean_binary", "DR", _BINARY, "lower", 3, "Share of drops, mean over the thresholds below 1."),
    Column("pointing", "pointing", _EVIDENCE, "higher", 3, "Share of maps whose highest point lies on the evidence."),
    Column("energy_inside", "energy", _EVIDENCE, "higher", 3, "Share of the map's sum that lies on it."),
    Column("ms", "ms", _COST, "lower", 1, "Milliseconds to explain one image of a batch.", ranked=False),
    Column("forwards", "forwards", _COST, "lower", 1, "Images sent through the network.", ranked=False),
    Column("backwards", "backwards", _COST, "lower", 1, "Images sent back through it, or its tail.", ranked=False),
)

_SHOWN = {
    *("api", "apd", "ir", "dr", "tie-rate", "mean-map", "keep-auc", "keep-auc-soft", "keep-auc-binary"),
    *("pointing-game", "energy-inside"),
}
"""Measures that are shown by COLUMNS."""


def shown_columns(results: Sequence[Result], directions: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """Return the columns that have a value for some result, measures of quality before costs.

    Args:
        results: results of one dataset and model.
        directions: better direction by measure; a measure that is missing here is not ranked.
    """
    directions = directions or {}
    names = dict.fromkeys([*directions, *(name for result in results for name in result.measures)])
    measures = [_measure_column(name, directions.get(name), results) for name in names if name not in _SHOWN]
    quality = [column for column in COLUMNS if not column.is_cost]
    cost = [column for column in COLUMNS if column.is_cost]
    return tuple(
        column
        for column in (*quality, *measures, *cost)
        if any(not math.isnan(result.mean(column.key)) for result in results)
    )


def _measure_column(name: str, declared: str | None, results: Sequence[Result]) -> Column:
    direction = cast("Direction", declared if declared in get_args(Direction) else "none")
    digits = _digits([result.mean(f"measure.{name}") for result in results])
    ranked = direction != "none"
    return Column(f"measure.{name}", name, _MORE, direction, digits, f"Mean of {name}.", ranked)


def _digits(values: Sequence[float]) -> int:
    """Return the number of decimals for three significant digits of the largest value; 3 if it is in [0.1, 10)."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0 or 0.1 <= largest < 10:
        return 3
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)
