"""Comparisons of methods on the images that both explained, and of measures by the ranks they give the methods.

    differences   d_i = method_i - reference_i -> mean, interval, p of the paired test, Holm-corrected in the family
    leaders       the best mean of a column, and p of every other method against it
    rank matrix   methods ranked by their means under each measure -> Kendall's tau-b between the measures
    front         methods for which no other is as good and as cheap, and better in one of the two

Controls are compared with the reference in a family of their own; they never lead and are not ranked or on the front.

Shapes: ranks (M, K) for M methods and K columns, tau (K, K).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xaikit.foundation.errors import BadInput
from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.statistics import bootstrap_interval, holm, kendall_tau, mean_of_known, paired_test

CostKind = Literal["ms", "passes"]

_DEFAULT_REFERENCE = "grad-cam"


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


def paired_differences(results: Sequence[Result], reference: str, column: Column) -> list[Difference]:
    """Return the difference of every other method from a reference, in order, controls last.

    Args:
        results: results of one dataset and model.
        reference: name of a method or control in the results.
        column: the measure to compare.

    Raises:
        BadInput: there is no such method.
    """
    by_name = {result.method: result for result in results}
    if reference not in by_name:
        raise BadInput(f"reference: expected one of {', '.join(by_name)}, got {reference!r}")
    base = by_name.pop(reference)
    others = list(by_name.values())
    if not others:
        return []
    values = np.column_stack([_values(result, column) for result in others])
    return _differences(others, _compared(values, _values(base, column)[:, None], column))


def all_differences(results: Sequence[Result], column: Column) -> dict[str, list[Difference]]:
    """Return `paired_differences` for every reference; each pair is resampled and tested once."""
    count = len(results)
    first, second = np.triu_indices(count, 1)
    values = np.column_stack([_values(result, column) for result in results])
    compared = _compared(values[:, first], values[:, second], column)
    pair = np.zeros((count, count), dtype=np.int64)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    differences = {}
    for index, base in enumerate(results):
        others = np.array([other for other in range(count) if other != index], dtype=np.int64)
        numbers = compared[:, pair[others, index]]
        signed = np.where(others < index, numbers, numbers[_OPPOSITE] * _SIGNS[:, None])
        differences[base.method] = _differences([results[other] for other in others], signed)
    return differences


_OPPOSITE = [0, 2, 1, 3, 4, 6, 5]
"""Indices of mean, low, high, p, pairs, better and worse of the opposite difference, up to `_SIGNS`."""

_SIGNS = np.array([-1, -1, -1, 1, 1, 1, 1])


def _compared(first: np.ndarray, second: np.ndarray, column: Column) -> np.ndarray:
    """Return mean, low, high, p, pairs, better and worse (7, K) of the differences (N, K)."""
    change = first - second
    gain = {"higher": change, "lower": -change, "none": np.full_like(change, np.nan)}[column.direction]
    shares = [mean_of_known(np.where(np.isnan(gain), np.nan, side)) for side in (gain > 0, gain < 0)]
    p = paired_test(first, np.broadcast_to(second, first.shape))
    return np.stack([mean_of_known(change), *bootstrap_interval(change), p, (~np.isnan(change)).sum(0), *shares])


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


def leaders(results: Sequence[Result], columns: Sequence[Column]) -> dict[str, Leader]:
    """Return the leader of each ranked column by key, without columns that have no values."""
    methods = [result for result in results if not result.is_control]
    ordered = {column.key: _ordered(methods, column) for column in columns if column.ranked}
    ordered = {key: ranking for key, ranking in ordered.items() if ranking}
    pairs = [(other.values[key], best.values[key]) for key, (best, *rest) in ordered.items() for other in rest]
    p = iter(_tested(pairs))
    result = {}
    for key, (best, *rest) in ordered.items():
        names = [other.method for other in rest]
        adjusted = holm(np.array([next(p) for _ in rest], dtype=np.float64)).tolist()
        common = [int((~np.isnan(other.values[key] - best.values[key])).sum()) for other in rest]
        result[key] = Leader(
            best.method, dict(zip(names, adjusted, strict=True)), dict(zip(names, common, strict=True))
        )
    return result


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


def _tested(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Return p of each pair of (N,) values; all pairs are tested by the same sign flips."""
    if not pairs:
        return []
    first, second = (np.column_stack(side) for side in zip(*pairs, strict=True))
    p: list[float] = paired_test(first, second).tolist()
    return p


def _ordered(results: Sequence[Result], column: Column) -> list[Result]:
    return sorted((result for result in results if _known(result, column)), key=lambda result: _order(result, column))


def _known(result: Result, column: Column) -> bool:
    return not math.isnan(result.mean(column.key))


def _order(result: Result, column: Column) -> float:
    return column.order(result.mean(column.key))


def _values(result: Result, column: Column) -> np.ndarray:
    return result.values.get(column.key, np.full(len(result.images), np.nan))
