"""Methods against each other on the images that both explained, and measures against each other over the methods.

    differences   d_i = method_i - reference_i -> mean, interval, p of the paired test by Holm over the family
    leaders       the best mean of a column, and p of every other method against it
    rank matrix   methods ranked by their means under each measure -> Kendall's tau-b between the measures
    front         methods that none other matches in quality at the same cost, or in cost at the same quality, or beats

Controls are compared with a reference, as a family of their own; they never lead, rank or stand on the front.

Shapes: ranks (M, K) for M methods and K columns, tau (K, K).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xaikit.foundation.errors import BadInput
from xaikit.report.numbers.aggregate import Result
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.statistics import bootstrap_interval, holm, kendall_tau, mean_of_known, paired_test

CostKind = Literal["ms", "passes"]

_USUAL_REFERENCE = "grad-cam"


@dataclass(frozen=True)
class Difference:
    """One method against the reference, over the images that both have a value for.

    Args:
        method: its name.
        is_control: it is one.
        mean: of method minus reference.
        low: end of the 95 % interval of that mean.
        high: the other end.
        p: of no difference, by Holm over the methods, or over the controls.
        pairs: how many images.
        better: share of them on which the method is better; NaN where no direction is.
        worse: share of them on which it is worse.
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
    """How far measures agree about the order of the methods.

    Args:
        columns: the measures.
        methods: without the controls.
        ranks: (M, K), 1 is best, equal means share their mean rank, NaN where unknown.
        tau: (K, K) tau-b, NaN where a measure tells no two methods apart.
    """

    columns: tuple[Column, ...]
    methods: tuple[str, ...]
    ranks: np.ndarray
    tau: np.ndarray


@dataclass(frozen=True)
class Point:
    """One method's quality and cost.

    Args:
        method: its name.
        is_control: it is one.
        quality: mean.
        low: end of its 95 % interval.
        high: the other end.
        cost: an image.
        front: no other method is as good and as cheap, and better in one of them.
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
    """Who has the best mean, and how sure that is.

    Args:
        best: name of the method.
        p: by every other method, of no difference from the best, by Holm over them; NaN without a common image.
        pairs: by every other method, how many images both have a value for.
    """

    best: str
    p: dict[str, float]
    pairs: dict[str, int]


def default_reference(results: Sequence[Result]) -> str:
    """Return the method that others are compared with unless another is asked for: grad-cam, else the first."""
    names = [result.method for result in results]
    return _USUAL_REFERENCE if _USUAL_REFERENCE in names else names[0]


def paired_differences(results: Sequence[Result], reference: str, column: Column) -> list[Difference]:
    """Return every other method against a reference, in order, controls last.

    Args:
        results: of one dataset and model.
        reference: name of a method or control among them.
        column: what is compared.

    Raises:
        BadInput: no such method.
    """
    by_name = {result.method: result for result in results}
    if reference not in by_name:
        raise BadInput(f"reference: expected one of {', '.join(by_name)}, got {reference!r}; name a method of the rows")
    base = by_name.pop(reference)
    others = list(by_name.values())
    if not others:
        return []
    ours = np.column_stack([_values(one, column) for one in others])
    return _listed(others, _compared(ours, _values(base, column)[:, None], column))


def all_differences(results: Sequence[Result], column: Column) -> dict[str, list[Difference]]:
    """Return `paired_differences` by every reference; each pair is resampled and tested once."""
    count = len(results)
    first, second = np.triu_indices(count, 1)
    values = np.column_stack([_values(one, column) for one in results])
    compared = _compared(values[:, first], values[:, second], column)
    place = np.zeros((count, count), dtype=np.int64)
    place[first, second] = place[second, first] = np.arange(len(first))
    found = {}
    for position, base in enumerate(results):
        others = np.array([other for other in range(count) if other != position], dtype=np.int64)
        numbers = compared[:, place[others, position]]
        turned = np.where(others < position, numbers, numbers[_TURNED] * _SIGNS[:, None])
        found[base.method] = _listed([results[other] for other in others], turned)
    return found


_TURNED = [0, 2, 1, 3, 4, 6, 5]
"""Where the mean, low, high, p, pairs, better and worse of the opposite difference stand."""

_SIGNS = np.array([-1, -1, -1, 1, 1, 1, 1])


def _compared(ours: np.ndarray, theirs: np.ndarray, column: Column) -> np.ndarray:
    """Return mean, low, high, p, pairs, better and worse (7, K) of differences (N, K)."""
    change = ours - theirs
    gain = {"higher": change, "lower": -change, "none": np.full_like(change, np.nan)}[column.direction]
    shares = [mean_of_known(np.where(np.isnan(gain), np.nan, side)) for side in (gain > 0, gain < 0)]
    test = paired_test(ours, np.broadcast_to(theirs, ours.shape))
    return np.stack([mean_of_known(change), *bootstrap_interval(change), test, (~np.isnan(change)).sum(0), *shares])


def _listed(others: Sequence[Result], compared: np.ndarray) -> list[Difference]:
    """Return the differences (7, K) with their p corrected, those of controls last."""
    p = np.empty(len(others))
    control = np.array([one.is_control for one in others], dtype=np.bool_)
    for family in (control, ~control):
        p[family] = holm(compared[3, family])
    found = [
        Difference(one.method, one.is_control, mean, low, high, float(own), int(pairs), better, worse)
        for one, own, (mean, low, high, _, pairs, better, worse) in zip(others, p, compared.T.tolist(), strict=True)
    ]
    return sorted(found, key=lambda one: one.is_control)


def leaders(results: Sequence[Result], columns: Sequence[Column]) -> dict[str, Leader]:
    """Return the leader of each ranked column, by key; a column without one is left out."""
    methods = [result for result in results if not result.is_control]
    ordered = {column.key: _ordered(methods, column) for column in columns if column.ranked}
    ordered = {key: several for key, several in ordered.items() if several}
    pairs = [(one.values[key], best.values[key]) for key, (best, *rest) in ordered.items() for one in rest]
    p = iter(_tested(pairs))
    found = {}
    for key, (best, *rest) in ordered.items():
        adjusted = holm(np.array([next(p) for _ in rest], dtype=np.float64)).tolist()
        common = [int((~np.isnan(one.values[key] - best.values[key])).sum()) for one in rest]
        found[key] = Leader(
            best.method,
            p={one.method: own for one, own in zip(rest, adjusted, strict=True)},
            pairs={one.method: own for one, own in zip(rest, common, strict=True)},
        )
    return found


def rank_matrix(results: Sequence[Result], columns: Sequence[Column]) -> RankMatrix:
    """Return how the ranked columns order the methods, and how far they agree."""
    methods = [result for result in results if not result.is_control]
    used = tuple(column for column in columns if column.ranked)
    ranks = np.full((len(methods), len(used)), np.nan)
    for place, column in enumerate(used):
        ranks[:, place] = _ranks(np.array([_order(one, column) for one in methods], dtype=np.float64))
    tau = np.array([[kendall_tau(one, other) for other in ranks.T] for one in ranks.T]).reshape(len(used), len(used))
    return RankMatrix(used, tuple(one.method for one in methods), ranks, tau)


def _ranks(order: np.ndarray) -> np.ndarray:
    """Return the ranks (M,) of what sorts best first; what is infinite has none."""
    before = (order[None] < order[:, None]).sum(1)
    equal = (order[None] == order[:, None]).sum(1)
    ranks: np.ndarray = np.where(np.isinf(order), np.nan, before + (equal + 1) / 2)
    return ranks


def pareto(results: Sequence[Result], quality: Column, cost: CostKind = "ms") -> list[Point]:
    """Return quality and cost of all that have both, in order.

    Args:
        results: of one dataset and model.
        quality: a column with a direction.
        cost: milliseconds, or passes: forwards and backwards together.
    """
    keys = {"ms": ("ms",), "passes": ("forwards", "backwards")}[cost]
    spent = {one.method: sum(one.mean(key) for key in keys) for one in results}
    shown = [one for one in results if _known(one, quality) and spent[one.method] == spent[one.method]]
    places = {one.method: (_order(one, quality), spent[one.method]) for one in shown if not one.is_control}
    return [
        Point(
            one.method,
            one.is_control,
            one.mean(quality.key),
            *one.interval(quality.key),
            spent[one.method],
            one.method in places and not any(_beats(other, places[one.method]) for other in places.values()),
        )
        for one in shown
    ]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _tested(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Return p of each pair of (N,); all are tested by the same flips."""
    if not pairs:
        return []
    ours, theirs = (np.column_stack(side) for side in zip(*pairs, strict=True))
    tested: list[float] = paired_test(ours, theirs).tolist()
    return tested


def _ordered(results: Sequence[Result], column: Column) -> list[Result]:
    """Return those with a mean, the best first."""
    return sorted((one for one in results if _known(one, column)), key=lambda one: _order(one, column))


def _known(result: Result, column: Column) -> bool:
    return result.mean(column.key) == result.mean(column.key)


def _order(result: Result, column: Column) -> float:
    return column.order(result.mean(column.key))


def _values(result: Result, column: Column) -> np.ndarray:
    return result.values.get(column.key, np.full(len(result.images), np.nan))
