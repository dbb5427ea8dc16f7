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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from xaikit.foundation.errors import BadInput
from xaikit.measures.removal.api_apd_ir_dr import drop, falls, increase, rises
from xaikit.report.numbers.statistics import bootstrap_interval, mean_of_known

Row = Mapping[str, Any]
Mask = Literal["soft", "binary"]
Curves = dict[str, np.ndarray]

CURVES = ("api", "apd", "ir", "dr", "ties", "confidence")

_REQUIRED = ("image_id", "method", "family", "dataset", "model", "levels", "y", "o_soft", "o_binary")
_MEANS = ("map_mean", "pointing", "energy_inside", "ms", "forwards", "backwards")
_MASKS: tuple[Mask, ...] = get_args(Mask)
_MEASURE = "measure."
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

    def mean(self, key: str) -> float:
        """Return the mean of a key, NaN where unknown."""
        if key.startswith(_MEASURE):
            return self.measures.get(key.removeprefix(_MEASURE), _UNKNOWN)
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


def blocks(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the rows by (dataset, model), which are never pooled, in order of appearance.

    Raises:
        BadInput: there are no rows, or a row lacks a required column.
    """
    result: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise BadInput(f"rows: expected the columns {', '.join(_REQUIRED)}, got none of {', '.join(missing)}")
        result.setdefault((str(row["dataset"]), str(row["model"])), []).append(row)
    if not result:
        raise BadInput("rows: expected at least one, got none; score some images first")
    return result


def aggregate(rows: Sequence[Row]) -> list[Result]:
    """Return the result of each method in the rows of one block, in order of appearance, controls last."""
    images = tuple(sorted({str(row["image_id"]) for row in rows}))
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    results = [_result(method, method_rows, images) for method, method_rows in by_method.items()]
    return sorted(results, key=lambda result: result.is_control)


def exclusions(rows: Iterable[Row]) -> tuple[Exclusion, ...]:
    """Return the excluded rows, one entry per method and reason, in order of appearance."""
    excluded: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if reason := _reason(row):
            excluded.setdefault((str(row["method"]), reason), []).append(str(row["image_id"]))
    return tuple(Exclusion(method, reason, tuple(images)) for (method, reason), images in excluded.items())


def _reason(row: Row) -> str:
    """Return why a row is excluded, or "" if it is valid."""
    if row.get("error"):
        return str(row["error"])
    return "the map is not finite" if "invalid" in (row.get("flags") or ()) else ""


def _result(method: str, rows: Sequence[Row], images: tuple[str, ...]) -> Result:
    flags = [flag for row in rows for flag in row.get("flags") or ()]
    valid = [row for row in rows if not _reason(row)]
    first = rows[0]
    levels = int(first["levels"])
    curves = {mask: _curves(_numbers(valid, "y"), _outputs(valid, f"o_{mask}", levels)) for mask in _MASKS}
    singles = _singles(valid, curves) | {
        name: _numbers(valid, name)
        for name in dict.fromkeys(name for row in rows for name in row if name.startswith(_MEASURE))
    }
    lines = [curves[mask][name] for mask in _MASKS for name in CURVES]
    values = _by_image(np.column_stack([*singles.values(), *lines]), [str(row["image_id"]) for row in valid], images)
    means, ends = mean_of_known(values), np.stack(bootstrap_interval(values))
    by_key = dict(zip(singles, values.T, strict=False))
    mean_by_key = dict(zip(singles, means.tolist(), strict=False))
    return Result(
        method=method,
        family=str(first["family"]),
        params=str(first.get("params") or "{}"),
        layer=str(first.get("layer") or ""),
        calibrated=bool(first.get("calibrated")),
        count=len(valid),
        excluded=len(rows) - len(valid),
        flags={flag: flags.count(flag) for flag in sorted(set(flags))},
        thresholds=np.arange(levels + 1) / levels,
        curves=_by_curve(means[len(singles) :]),
        scalars={key: mean for key, mean in mean_by_key.items() if not key.startswith(_MEASURE)}
        | {"api_largest_share": _largest_share(by_key["api"])},
        measures={key.removeprefix(_MEASURE): mean for key, mean in mean_by_key.items() if key.startswith(_MEASURE)},
        images=images,
        values=by_key,
        intervals=dict(zip(singles, zip(*ends.tolist(), strict=True), strict=False)),
        bands=_by_curve(ends[:, len(singles) :]),
    )


def _singles(rows: Sequence[Row], curves: Mapping[Mask, Curves]) -> dict[str, np.ndarray]:
    """Return the scalar values of each row, (R,) by key."""
    changes = ("api", "apd", "ir", "dr")
    return (
        {name: _numbers(rows, name) for name in _MEANS}
        | {f"keep_auc_{mask}": _area(curves[mask]["confidence"]) for mask in _MASKS}
        | {name: curves["soft"][name][:, 0] for name in (*changes, "ties")}
        | {f"{name}_mean_{mask}": curves[mask][name][:, :-1].mean(1) for mask in _MASKS for name in changes}
    )


def _numbers(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row.get(name) for row in rows], dtype=np.float64)


def _outputs(rows: Sequence[Row], column: str, levels: int) -> np.ndarray:
    lengths = {len(row[column]) for row in rows} - {levels + 1}
    if lengths:
        raise BadInput(f"rows: expected {levels + 1} values in {column}, got {min(lengths)}; use the same levels")
    return np.array([row[column] for row in rows], dtype=np.float64).reshape(len(rows), levels + 1)


def _curves(y: np.ndarray, o: np.ndarray) -> Curves:
    """Return the contribution (R, T) of each row to each curve, for y (R,) and o (R, T)."""
    y = y[:, None]
    contributions = {
        "api": increase(y, o),
        "apd": drop(y, o),
        "ir": rises(y, o),
        "dr": falls(y, o),
        "ties": o == y,
        "confidence": o,
    }
    return {name: contributions[name].astype(np.float64) for name in CURVES}


def _by_image(values: np.ndarray, names: Sequence[str], images: Sequence[str]) -> np.ndarray:
    """Return the mean (N, K) of the rows (R, K) of each image; NaN without a known value."""
    index = {image: position for position, image in enumerate(images)}
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, len(images), values.shape[1]))
    rows = [index[name] for name in names]
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
