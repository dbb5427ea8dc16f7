"""Comparisons of methods on the images that both explained, and of measures by the ranks they give the methods.

    differences   d_i = method_i - reference_i -> mean, interval, p of the paired test, Holm-corrected in the family
    leaders       the best mean of a column, and p of every other method against it
    rank matrix   methods ranked by their means under each measure -> Kendall's tau-b between the measures
    front         methods for which no other is as good and as cheap, and better in one of the two

Controls are compared with the reference in a family of their own; they never lead and are not ranked or on the front.

Shapes: ranks (M, K) for M methods and K columns, tau (K, K).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.pairs import DRAWS, Pairs, compare_pairs
from xaikit.report.numbers.statistics import holm, kendall_tau

CostKind = Literal["ms", "passes"]

_DEFAULT_REFERENCE = "grad-cam"
_AT_ONCE = 8_000_000  # largest number of values that are compared together


@dataclass(frozen=True)
class Difference:
    """One method against the reference, over the images for which both have a value.

    Args:
        method: name of the method.
        is_control: whether the method is a control.
        mean: mean of method minus reference.
        low: lower end of the 95 % interval of the mean.
        high: upper end of the interval.
        p: p-value of no difference, Holm-corrected over the methods, or over the controls.
        pairs: number of images.
        better: share of images on which the method is better; NaN without a direction.
        worse: share of images on which the method is worse; NaN without a direction.
    """

    method: str
    is_control: bool
    mean: float
    low: float
    high: float
    p: float
    pairs: int
    better: float
    worse: float


@dataclass(frozen=True)
class RankMatrix:
    """The ranks of the methods under each measure, and the agreement between the measures.

    Args:
        columns: the measures.
        methods: names of the methods, without controls.
        ranks: (M, K), 1 is best, equal means share their mean rank, NaN where unknown.
        tau: (K, K) tau-b, NaN if a measure gives all methods the same value.
    """

    columns: tuple[Column, ...]
    methods: tuple[str, ...]
    ranks: np.ndarray
    tau: np.ndarray

    def first(self, count: int | None) -> RankMatrix:
        """Return the matrix of the first measures."""
        return RankMatrix(self.columns[:count], self.methods, self.ranks[:, :count], self.tau[:count, :count])


@dataclass(frozen=True)
class Point:
    """One method's quality and cost.

    Args:
        method: name of the method.
        is_control: whether the method is a control.
        quality: mean of the measure.
        low: lower end of the 95 % interval of the mean.
        high: upper end of the interval.
        cost: cost per image.
        front: whether the method is on the Pareto front.
    """

    method: str
    is_control: bool
    quality: float
    low: float
    high: float
    cost: float
    front: bool


@dataclass(frozen=True)
class Leader:
    """The method with the best mean, and the tests of the other methods against it.

    Args:
        best: name of the best method.
        p: Holm-corrected p-value of no difference from the best, by other method; NaN without a common image.
        pairs: number of images for which both have a value, by other method.
    """

    best: str
    p: dict[str, float]
    pairs: dict[str, int]


def default_reference(results: Sequence[Result]) -> str:
    """Return the method that others are compared with by default: grad-cam, else the first."""
    names = [result.method for result in results]
    return _DEFAULT_REFERENCE if _DEFAULT_REFERENCE in names else names[0]


def compared(results: Sequence[Result], columns: Sequence[Column]) -> dict[str, Pairs]:
    """Return the comparison of all pairs of results under each ranked column, by key; each is resampled once."""
    keys = [column.key for column in columns if column.ranked]
    count = len(results)
    step = max(1, _AT_ONCE // max(1, count * len(results[0].images), DRAWS * count * (count - 1) // 2))
    pairs: dict[str, Pairs] = {}
    for start in range(0, len(keys), step):
        some = keys[start : start + step]
        values = [np.column_stack([_values(result, key) for result in results]) for key in some]
        pairs |= zip(some, compare_pairs(values), strict=True)
    return pairs


def all_differences(results: Sequence[Result], column: Column, pairs: Pairs) -> dict[str, list[Difference]]:
    """Return the differences of the other methods from each method as the reference, controls last.

    Args:
        results: results of one dataset and model.
        column: the measure.
        pairs: their comparison under the measure.
    """
    count = len(results)
    better, worse = {"higher": (pairs.above, pairs.below), "lower": (pairs.below, pairs.above)}.get(
        column.direction, (np.full_like(pairs.above, np.nan),) * 2
    )
    numbers = np.stack([pairs.mean, pairs.low, pairs.high, pairs.p, pairs.count, better, worse])
    first, second = np.triu_indices(count, 1)
    pair = np.zeros((count, count), dtype=np.int64)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    differences = {}
    for index, base in enumerate(results):
        others = np.array([other for other in range(count) if other != index], dtype=np.int64)
        own = numbers[:, pair[others, index]]
        signed = np.where(others < index, own, own[_OPPOSITE] * _SIGNS[:, None])
        differences[base.method] = _differences([results[other] for other in others], signed)
    return differences


_OPPOSITE = [0, 2, 1, 3, 4, 6, 5]
"""Indices of mean, low, high, p, pairs, better and worse of the opposite difference, up to `_SIGNS`."""

_SIGNS = np.array([-1, -1, -1, 1, 1, 1, 1])


def _differences(others: Sequence[Result], compared: np.ndarray) -> list[Difference]:
    """Return the differences (7, K) with Holm-corrected p, controls last."""
    corrected = np.empty(len(others))
    control = np.array([result.is_control for result in others], dtype=np.bool_)
    for family in (control, ~control):
        corrected[family] = holm(compared[3, family])
    differences = [
        Difference(result.method, result.is_control, mean, low, high, float(p), int(pairs), better, worse)
        for result, p, (mean, low, high, _, pairs, better, worse) in zip(
            others, corrected, compared.T.tolist(), strict=True
        )
    ]
    return sorted(differences, key=lambda difference: difference.is_control)


def leaders(results: Sequence[Result], columns: Sequence[Column], pairs: Mapping[str, Pairs]) -> dict[str, Leader]:
    """Return the leader of each ranked column by key, without columns that have no values.

    Args:
        results: results of one dataset and model.
        columns: the columns.
        pairs: comparison of the results under each ranked column.
    """
    places = {result.method: place for place, result in enumerate(results)}
    methods = [result for result in results if not result.is_control]
    found = {}
    for column in columns:
        ordered = _ordered(methods, column) if column.ranked else []
        if ordered:
            best, *rest = (places[result.method] for result in ordered)
            own = [_pair(best, other, len(results)) for other in rest]
            names = [result.method for result in ordered[1:]]
            p = holm(pairs[column.key].p[own]).tolist()
            common = map(int, pairs[column.key].count[own])
            found[column.key] = Leader(
                ordered[0].method, dict(zip(names, p, strict=True)), dict(zip(names, common, strict=True))
            )
    return found


def _pair(one: int, other: int, count: int) -> int:
    """Return the place of a pair of results among all pairs."""
    first, second = min(one, other), max(one, other)
    return first * count - first * (first + 1) // 2 + second - first - 1


def rank_matrix(results: Sequence[Result], columns: Sequence[Column]) -> RankMatrix:
    """Return the ranks of the methods under the ranked columns, and the agreement between the columns."""
    methods = [result for result in results if not result.is_control]
    ranked = tuple(column for column in columns if column.ranked)
    ranks = np.full((len(methods), len(ranked)), np.nan)
    for index, column in enumerate(ranked):
        ranks[:, index] = _ranks(np.array([_order(method, column) for method in methods], dtype=np.float64))
    tau = np.array([[kendall_tau(first, second) for second in ranks.T] for first in ranks.T])
    return RankMatrix(ranked, tuple(method.method for method in methods), ranks, tau.reshape(len(ranked), len(ranked)))


def _ranks(order: np.ndarray) -> np.ndarray:
    """Return the ranks (M,) of sort keys, smallest first; NaN for infinite keys."""
    before = (order[None] < order[:, None]).sum(1)
    equal = (order[None] == order[:, None]).sum(1)
    ranks: np.ndarray = np.where(np.isinf(order), np.nan, before + (equal + 1) / 2)
    return ranks


def pareto(results: Sequence[Result], quality: Column, cost: CostKind = "ms") -> list[Point]:
    """Return quality and cost of all results that have both, in order.

    Args:
        results: results of one dataset and model.
        quality: a column with a direction.
        cost: "ms" for milliseconds, "passes" for the sum of forwards and backwards.
    """
    keys = {"ms": ("ms",), "passes": ("forwards", "backwards")}[cost]
    costs = {result.method: sum(result.mean(key) for key in keys) for result in results}
    known = [result for result in results if _known(result, quality) and not math.isnan(costs[result.method])]
    points = {
        result.method: (_order(result, quality), costs[result.method]) for result in known if not result.is_control
    }
    front = {method for method, point in points.items() if not any(_beats(other, point) for other in points.values())}
    return [
        Point(
            result.method,
            result.is_control,
            result.mean(quality.key),
            *result.interval(quality.key),
            costs[result.method],
            result.method in front,
        )
        for result in known
    ]


def _beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first != second and first[0] <= second[0] and first[1] <= second[1]


def _ordered(results: Sequence[Result], column: Column) -> list[Result]:
    return sorted((result for result in results if _known(result, column)), key=lambda result: _order(result, column))


def _known(result: Result, column: Column) -> bool:
    return not math.isnan(result.mean(column.key))


def _order(result: Result, column: Column) -> float:
    return column.order(result.mean(column.key))


def _values(result: Result, key: str) -> np.ndarray:
    return result.values.get(key, np.full(len(result.images), np.nan))
