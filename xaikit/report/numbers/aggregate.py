"""The result of each method, aggregated from rows over images and thresholds.

    API_j = mean_i max(o_ij - y_i, 0) / y_i      APD_j = mean_i max(y_i - o_ij, 0) / y_i
    IR_j  = mean_i 1[o_ij > y_i]                 DR_j  = mean_i 1[o_ij < y_i]       ties_j = 1 - IR_j - DR_j
    KeepAUC = mean_i trapz_t o_i(t)              each with its interval over resampled images

A row is one image explained by one method, with its raw y and o; every number of a report is computed here from rows
alone. Several seeds of an image are averaged first, so that all images have the same weight. A row with an `error` or
an invalid map is excluded from the means and counted.

Shapes: y (R,), o (R, T) for R rows and T thresholds t = j / J; values (N,) for N images; curves (T,), bands (2, T).
Source: the API, APD, IR and DR of Lee and Han, IJCAI 2022, read at every threshold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from xaikit.benchmark.rows import MEASURE, Row
from xaikit.measures.removal.api_apd_ir_dr import drop, falls, increase, rises
from xaikit.report.numbers.gather import MethodScores, Name, Scores, gather
from xaikit.report.numbers.statistics import bootstrap_interval, mean_of_known

Mask = Literal["soft", "binary"]
Curves = dict[str, np.ndarray]

_CONTRIBUTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "api": increase,
    "apd": drop,
    "ir": rises,
    "dr": falls,
    "ties": lambda y, o: o == y,
    "confidence": lambda y, o: o,
}
CURVES = tuple(_CONTRIBUTIONS)

_MASKS: tuple[Mask, ...] = get_args(Mask)
_MEANS = ("map_mean", "pointing", "energy_inside", "ms", "forwards", "backwards")
SINGLES = (
    *_MEANS,
    *(f"keep_auc_{mask}" for mask in _MASKS),
    *("api", "apd", "ir", "dr", "ties"),
    *(f"{name}_mean_{mask}" for mask in _MASKS for name in ("api", "apd", "ir", "dr")),
)
"""Names of the scalars, without those of measures."""

_EVIDENCE = ("oracle", "anti-oracle")
_AT_ONCE = 16_000_000  # largest number of values whose interval is computed together
_UNKNOWN = float("nan")


@dataclass(frozen=True)
class Result:
    """The scores of one method on one dataset and model.

    A key is the name of a scalar, or `measure.NAME`.

    Args:
        method: name of the method.
        family: family of the method; "control" marks controls.
        params: parameters of the method as JSON.
        layer: target layer, or "".
        calibrated: whether the method chose a threshold by the model's confidence, which the soft measures reward.
        count: number of valid rows.
        excluded: number of excluded rows: the method failed, or the map was not finite.
        flags: number of rows with each flag.
        thresholds: (T,) t = j / J.
        curves: (T,) by mask and by name of `CURVES`.
        scalars: means by name: keep_auc_soft, keep_auc_binary; api, apd, ir, dr and ties at t = 0 under soft masks,
            and the largest share of one image in that API; api_mean_soft, api_mean_binary and so on, over the
            thresholds below 1; cost, map mean and localisation; NaN where unknown.
        measures: mean of each measure by its name; NaN where unknown.
        images: names of all images of the block, sorted, including those without a value for this method.
        values: (N,) value of each image by key, NaN where unknown.
        intervals: ends of the 95 % interval by key; NaN for fewer than two images.
        bands: (2, T) ends of the 95 % interval by mask and by name of `CURVES`.
    """

    method: str
    family: str
    params: str
    layer: str
    calibrated: bool
    count: int
    excluded: int
    flags: dict[str, int]
    thresholds: np.ndarray
    curves: dict[Mask, Curves]
    scalars: dict[str, float]
    measures: dict[str, float] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    values: dict[str, np.ndarray] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    bands: dict[Mask, Curves] = field(default_factory=dict)

    @property
    def is_control(self) -> bool:
        """Whether the method is a control."""
        return self.family == "control"

    @property
    def is_evidence(self) -> bool:
        """Whether the maps are the known evidence or its complement, which no other control knows."""
        return self.is_control and self.method in _EVIDENCE

    def mean(self, key: str) -> float:
        """Return the mean of a key, NaN where unknown."""
        if key.startswith(MEASURE):
            return self.measures.get(key.removeprefix(MEASURE), _UNKNOWN)
        return self.scalars.get(key, _UNKNOWN)

    def interval(self, key: str) -> tuple[float, float]:
        """Return the ends of a key's interval, NaN where unknown."""
        return self.intervals.get(key, (_UNKNOWN, _UNKNOWN))


@dataclass(frozen=True)
class Exclusion:
    """Rows of one method that are excluded for the same reason.

    Args:
        method: name of the method.
        reason: reason in one line.
        images: names of the images of the rows.
    """

    method: str
    reason: str
    images: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The numbers of one data set and model.

    Args:
        results: the result of each method, in order of appearance, controls last.
        exclusions: excluded rows, one entry per method and reason, in order of appearance.
        confidence: (N,) confidence y of each image, NaN where unknown.
        correct: (N,) whether the explained class is the true one, NaN where unknown.
    """

    results: tuple[Result, ...]
    exclusions: tuple[Exclusion, ...]
    confidence: np.ndarray
    correct: np.ndarray

    @property
    def images(self) -> tuple[str, ...]:
        """Names of all images, sorted."""
        return self.results[0].images


def summaries(rows: Sequence[Row]) -> dict[Name, Summary]:
    """Return the numbers of rows by data set and model, which are never pooled, in order of appearance.

    Raises:
        BadInput: there are no rows, or a row lacks a required column.
    """
    return {name: summary(scores) for name, scores in gather(rows).items()}


def summary(scores: Scores) -> Summary:
    """Return the numbers of one data set and model; their scores are used up."""
    confidence, correct = np.full((2, len(scores.images)), np.nan)
    results = [_result(method, own, scores.images, confidence, correct) for method, own in scores.methods.items()]
    excluded = tuple(Exclusion(*key, tuple(images)) for key, images in scores.excluded.items())
    return Summary(tuple(sorted(results, key=lambda result: result.is_control)), excluded, confidence, correct)


def _result(
    method: str, scores: MethodScores, images: tuple[str, ...], confidence: np.ndarray, correct: np.ndarray
) -> Result:
    """Return the result of a method, and note the confidence in its images and whether it is in the true class."""
    about, numbers = scores.about, scores.take()
    y, label = numbers.columns["y"], numbers.columns["label"]
    confidence[numbers.images] = y
    correct[numbers.images] = np.where(np.isnan(label), np.nan, label == numbers.columns["target"])
    levels = numbers.soft.shape[1] - 1
    statistics = _Statistics(numbers.images, len(images))
    singles = {name: numbers.columns[name] for name in _MEANS}
    for mask, o in zip(_MASKS, (numbers.soft, numbers.binary), strict=True):
        for name in CURVES:
            curve = _curve(name, y, o)
            singles |= _singles(mask, name, curve)
            statistics.add(curve)
    singles = {name: singles[name] for name in SINGLES} | {
        name: values for name, values in numbers.columns.items() if name.startswith(MEASURE)
    }
    statistics.add(np.column_stack(list(singles.values())))
    means, ends = statistics.result()
    count = len(_MASKS) * len(CURVES) * (levels + 1)
    by_key = dict(zip(singles, statistics.last.T, strict=True))
    mean_by_key = dict(zip(singles, means[count:].tolist(), strict=True))
    return Result(
        method=method,
        family=str(about["family"]),
        params=str(about.get("params") or "{}"),
        layer=str(about.get("layer") or ""),
        calibrated=bool(about.get("calibrated")),
        count=scores.count,
        excluded=scores.excluded,
        flags=scores.flags,
        thresholds=np.arange(levels + 1) / levels,
        curves=_by_curve(means[:count]),
        scalars={key: mean for key, mean in mean_by_key.items() if not key.startswith(MEASURE)}
        | {"api_largest_share": _largest_share(by_key["api"])},
        measures={key.removeprefix(MEASURE): mean for key, mean in mean_by_key.items() if key.startswith(MEASURE)},
        images=images,
        values=by_key,
        intervals=dict(zip(singles, zip(*ends[:, count:].tolist(), strict=True), strict=True)),
        bands=_by_curve(ends[:, :count]),
    )


class _Statistics:
    """Means over the images and the ends of their intervals, of columns that are added in bounded memory.

    Args:
        rows: (R,) index of the image of each row.
        images: number of images.
    """

    def __init__(self, rows: np.ndarray, images: int) -> None:
        self.rows, self.images = rows, images
        self.last = np.zeros((images, 0))
        self._waiting: list[np.ndarray] = []
        self._means: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Add columns (R, K); `last` becomes their values (N, K) of each image."""
        self.last = _by_image(values, self.rows, self.images)
        self._waiting.append(self.last)
        if sum(part.size for part in self._waiting) > _AT_ONCE:
            self._count()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the means (K,) and ends (2, K) of all columns."""
        self._count()
        return np.concatenate(self._means), np.concatenate(self._ends, axis=1)

    def _count(self) -> None:
        if self._waiting:
            values = np.concatenate(self._waiting, axis=1)
            self._waiting = []
            self._means.append(mean_of_known(values))
            self._ends.append(np.stack(bootstrap_interval(values)))


def _singles(mask: Mask, name: str, curve: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scalar values (R,) of each row that one of its curves (R, T) gives."""
    if name == "confidence":
        return {f"keep_auc_{mask}": _area(curve)}
    at_zero = {name: curve[:, 0]} if mask == "soft" else {}
    return at_zero if name == "ties" else at_zero | {f"{name}_mean_{mask}": curve[:, :-1].mean(1)}


def _curve(name: str, y: np.ndarray, o: np.ndarray) -> np.ndarray:
    """Return the contribution (R, T) of each row to a curve, for y (R,) and o (R, T), NaN where o is."""
    contribution = _CONTRIBUTIONS[name](y[:, None], o).astype(np.float64)
    return np.where(np.isnan(o), np.nan, contribution)


def _by_image(values: np.ndarray, rows: np.ndarray, images: int) -> np.ndarray:
    """Return the mean (N, K) of the rows (R, K) of each image; NaN without a known value."""
    if len(rows) == images and np.array_equal(rows, np.arange(images)):
        return values
    if len(np.unique(rows)) == len(rows):
        single = np.full((images, values.shape[1]), np.nan)
        single[rows] = values
        return single
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, images, values.shape[1]))
    np.add.at(sums, rows, np.where(known, values, 0.0))
    np.add.at(counts, rows, known)
    means: np.ndarray = np.where(counts > 0, sums, np.nan) / np.maximum(counts, 1)
    return means


def _by_curve(flat: np.ndarray) -> dict[Mask, Curves]:
    """Return the curves by mask and name, split from their concatenation along the last axis."""
    parts = iter(np.split(flat, len(_MASKS) * len(CURVES), axis=-1))
    return {mask: {name: next(parts) for name in CURVES} for mask in _MASKS}


def _area(o: np.ndarray) -> np.ndarray:
    """Return the area (R,) under o (R, T) over t in [0, 1] by the trapezoidal rule."""
    area: np.ndarray = (o[:, 1:] + o[:, :-1]).mean(1) / 2
    return area


def _largest_share(gains: np.ndarray) -> float:
    """Return the largest share that one image has in the sum of the gains."""
    total = np.nansum(gains)
    return float(np.nanmax(gains) / total) if total > 0 else _UNKNOWN
