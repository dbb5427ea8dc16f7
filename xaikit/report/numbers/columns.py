"""The columns of a report: which values are shown, how they are printed, and which direction is better.

    the suite's measures, in its order -> what else the rows hold -> costs        (those with a value for some method)

The first are those that decide: KeepAUC where the suite measures it, else its first two measures with a direction. A
measure whose values are also a scalar of the rows, such as api, is one column, with the scalar's key.

A key names a mean of a result: a scalar, or `measure.NAME`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from xaikit.benchmark.manifest import MeasureAbout
from xaikit.benchmark.rows import MEASURE
from xaikit.report.numbers.aggregate import Result

Direction = Literal["higher", "lower", "none"]
Measures = Mapping[str, MeasureAbout]
"""The measures of a suite by their name in rows, in its order."""

_ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", "none": ""}
_NOTHING = "\N{EN DASH}"
_SOFT = "soft masks"
_BINARY = "binary masks"
_EVIDENCE = "known evidence"
_MORE = "measures"
_COST = "cost per image"

QUESTIONS = {
    _SOFT: "How confident is the model when each pixel is dimmed by the map? "
    "A bright map dims little, which helps it, so read the map mean beside these.",
    _BINARY: "How confident is it when the highest pixels stay as they are and the others are removed? "
    "Only the order of the pixels counts, not the map's brightness.",
    _EVIDENCE: "Does the map lie on the pixels that are known to be the evidence?",
    _MORE: "Measures of the suite, each with its own direction.",
    _COST: "What does one explanation cost?",
}
"""The question that each group of columns answers."""

SHORT = {_SOFT: "soft", _BINARY: "binary", _EVIDENCE: "evidence", _MORE: "", _COST: "cost"}
"""Short names of the groups."""


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
        decides: whether it is among the columns that answer which method is best.
    """

    key: str
    title: str
    group: str
    direction: Direction
    digits: int
    meaning: str
    ranked: bool = True
    decides: bool = False

    @property
    def arrow(self) -> str:
        """The arrow of the better direction."""
        return _ARROWS[self.direction]

    @property
    def name(self) -> str:
        """The title, and the group where several columns have it."""
        return self.title if self.group == _MORE else f"{self.title} ({self.group})"

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

_SCALARS = {
    "keep-auc": "keep_auc_soft",
    "keep-auc-soft": "keep_auc_soft",
    "keep-auc-binary": "keep_auc_binary",
    "tie-rate": "ties",
    "mean-map": "map_mean",
    "pointing-game": "pointing",
    "energy-inside": "energy_inside",
} | {name: name for name in ("api", "apd", "ir", "dr")}
"""The scalar that has the values of a measure with its usual parameters."""

_GROUPS = dict.fromkeys(("pointing-game", "energy-inside", "rank-accuracy", "iou", "average-precision"), _EVIDENCE) | {
    "average-gain": _SOFT
}
_DECISIVE = ("keep_auc_soft", "keep_auc_binary")
_SAME = 1e-6  # largest difference of two roundings of one value


def shown_columns(results: Sequence[Result], measures: Measures | None = None) -> tuple[Column, ...]:
    """Return the columns that have a value for some result: those that decide first, costs last.

    Args:
        results: results of one dataset and model.
        measures: the measures of the suite, in its order; one that is missing here is not ranked.
    """
    measures = measures or {}
    twice = same_values(results)
    usual = {column.key: column for column in COLUMNS}
    own = {name: name for result in results for name in result.measures}
    named = [usual[twice[name]] if name in twice else _measure_column(name, measures, results) for name in measures]
    other = [_measure_column(name, measures, results) for name in own if name not in measures and name not in twice]
    quality = [column for column in COLUMNS if not column.is_cost]
    cost = [column for column in COLUMNS if column.is_cost]
    known = [
        column
        for column in dict.fromkeys((*named, *quality, *other, *cost))
        if any(not math.isnan(result.mean(column.key)) for result in results)
    ]
    ranked = [column for column in known if column.ranked and (column in named or not named)]
    first = [column for column in ranked if column.key in _DECISIVE] or ranked[:2]
    return (*(replace(column, decides=True) for column in first), *(one for one in known if one not in first))


def names_of(column: Column) -> set[str]:
    """Return the names by which a reader may ask for a column: its key, and those of measures with the same values."""
    usual = {name for name, key in _SCALARS.items() if key == column.key}
    return {column.key.removeprefix(MEASURE), *usual}


def same_values(results: Sequence[Result]) -> dict[str, str]:
    """Return the measures whose values are a scalar of the rows in all results, and the key of this scalar."""
    names = {name for result in results for name in result.measures} & _SCALARS.keys()
    return {name: _SCALARS[name] for name in names if all(_is_same(result, name) for result in results)}


def _is_same(result: Result, name: str) -> bool:
    unknown = np.full(len(result.images), np.nan)
    scalar, measure = (result.values.get(key, unknown) for key in (_SCALARS[name], f"{MEASURE}{name}"))
    return bool(np.isnan(measure).all() or np.allclose(scalar, measure, rtol=0, atol=_SAME, equal_nan=True))


def _measure_column(name: str, measures: Measures, results: Sequence[Result]) -> Column:
    about = measures.get(name, MeasureAbout())
    key = f"{MEASURE}{name}"
    digits = _digits([result.mean(key) for result in results])
    group, meaning = _GROUPS.get(about.name or name, _MORE), about.meaning or f"Mean of {name}."
    return Column(key, name, group, about.direction, digits, meaning, about.direction != "none")


def _digits(values: Sequence[float]) -> int:
    """Return the number of decimals for three significant digits of the largest value; 3 if it is in [0.1, 10)."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0 or 0.1 <= largest < 10:
        return 3
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)
