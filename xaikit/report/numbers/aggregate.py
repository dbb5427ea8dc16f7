"""Rows to numbers: what each method scored, over images and thresholds.

    API_j = mean_i max(o_ij - y_i, 0) / y_i      APD_j = mean_i max(y_i - o_ij, 0) / y_i
    IR_j  = mean_i 1[o_ij > y_i]                 DR_j  = mean_i 1[o_ij < y_i]       ties_j = 1 - IR_j - DR_j
    KeepAUC = mean_i trapz_t o_i(t)              each with its interval over resampled images

A row is one image explained by one method, with its raw y and o; every number of a report is computed here from rows
alone. Several seeds of an image are averaged first, so that images weigh alike. A row that has an `error`, or whose map
was invalid, is left out of the means and counted.

Shapes: y (R,), o (R, T) for R rows and T thresholds t = j / J; values (N,), one an image; curves (T,), bands (2, T).
Source: the API, APD, IR and DR of Lee and Han, IJCAI 2022, read at every threshold.
"""

from __future__ import annotations

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

_NEEDED = ("image_id", "method", "family", "dataset", "model", "levels", "y", "o_soft", "o_binary")
_MEANS = ("map_mean", "pointing", "energy_inside", "ms", "forwards", "backwards")
_MASKS: tuple[Mask, ...] = get_args(Mask)
_MEASURE = "measure."
_UNKNOWN = float("nan")


@dataclass(frozen=True)
class Result:
    """What one method scored.

    A key is a name among the scalars, or `measure.NAME`.

    Args:
        method: its name.
        family: its family; "control" stands apart.
        params: its parameters as JSON.
        layer: the layer it reads, or "".
        calibrated: it chose a threshold by the model's confidence, which the soft measures reward.
        count: rows that count.
        excluded: rows left out: failed, or the map was not finite.
        flags: how many rows carry each flag.
        thresholds: (T,) t = j / J.
        curves: by mask, then by name of `CURVES`, (T,).
        scalars: by name: keep_auc_soft, keep_auc_binary; api, apd, ir, dr and ties at t = 0 under soft masks, and the
            largest share of one image in that API; api_mean_soft, api_mean_binary and so on, over the thresholds below
            1; and the means of cost, map and localisation; NaN where unknown.
        measures: mean by the name of each measure of the rows; NaN where unknown.
        images: all images of the block, sorted, whether or not this method has a value for them.
        values: by key, (N,) one an image, NaN where unknown.
        intervals: by key, the ends of the 95 % interval; NaN where there are fewer than two images.
        bands: by mask, then by name of `CURVES`, (2, T) the ends of the 95 % interval.
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
        """A baseline that explains nothing and stands beside every method."""
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
    """Rows of one method that are left out for one reason.

    Args:
        method: its name.
        reason: why, in one line.
        images: of the rows.
    """

    method: str
    reason: str
    images: tuple[str, ...]


def blocks(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the rows by (dataset, model), which are never pooled, in order of appearance.

    Raises:
        BadInput: no rows, or a row without a needed column.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        missing = [name for name in _NEEDED if name not in row]
        if missing:
            raise BadInput(f"rows: expected the columns {', '.join(_NEEDED)}, got none of {', '.join(missing)}")
        found.setdefault((str(row["dataset"]), str(row["model"])), []).append(row)
    if not found:
        raise BadInput("rows: expected at least one, got none; score some images first")
    return found


def aggregate(rows: Sequence[Row]) -> list[Result]:
    """Return one result a method, in order of appearance, the controls last; the rows are those of one block."""
    images = tuple(sorted({str(row["image_id"]) for row in rows}))
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    results = [_result(method, own, images) for method, own in by_method.items()]
    return sorted(results, key=lambda result: result.is_control)


def exclusions(rows: Iterable[Row]) -> tuple[Exclusion, ...]:
    """Return which rows are left out of the means and why, one entry a method and reason, in order of appearance."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reason = _reason(row)
        if reason:
            found.setdefault((str(row["method"]), reason), []).append(str(row["image_id"]))
    return tuple(Exclusion(method, reason, tuple(images)) for (method, reason), images in found.items())


def _reason(row: Row) -> str:
    """Return why a row does not count, or nothing."""
    if row.get("error"):
        return str(row["error"])
    return "the map is not finite" if "invalid" in (row.get("flags") or ()) else ""


def _result(method: str, rows: Sequence[Row], images: tuple[str, ...]) -> Result:
    flags = [flag for row in rows for flag in row.get("flags") or ()]
    good = [row for row in rows if not _reason(row)]
    first = rows[0]
    levels = int(first["levels"])
    curves = {mask: _curves(_numbers(good, "y"), _outputs(good, f"o_{mask}", levels)) for mask in _MASKS}
    singles = _singles(good, curves) | {
        name: _numbers(good, name)
        for name in dict.fromkeys(name for row in rows for name in row if name.startswith(_MEASURE))
    }
    lines = [curves[mask][name] for mask in _MASKS for name in CURVES]
    values = _by_image(np.column_stack([*singles.values(), *lines]), [str(row["image_id"]) for row in good], images)
    means, ends = mean_of_known(values), np.stack(bootstrap_interval(values))
    by_key = dict(zip(singles, values.T, strict=False))
    mean_by_key = dict(zip(singles, means.tolist(), strict=False))
    return Result(
        method=method,
        family=str(first["family"]),
        params=str(first.get("params") or "{}"),
        layer=str(first.get("layer") or ""),
        calibrated=bool(first.get("calibrated")),
        count=len(good),
        excluded=len(rows) - len(good),
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
    """Return what a row has one number of, (R,) by key."""
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
        raise BadInput(f"rows: expected {levels + 1} values in {column}, got {min(lengths)}; score them alike")
    return np.array([row[column] for row in rows], dtype=np.float64).reshape(len(rows), levels + 1)


def _curves(y: np.ndarray, o: np.ndarray) -> Curves:
    """Return what each row (R, T) contributes to the curves."""
    before = y[:, None]
    contributions = {
        "api": increase(before, o),
        "apd": drop(before, o),
        "ir": rises(before, o),
        "dr": falls(before, o),
        "ties": o == before,
        "confidence": o,
    }
    return {name: contributions[name].astype(np.float64) for name in CURVES}


def _by_image(values: np.ndarray, names: Sequence[str], images: Sequence[str]) -> np.ndarray:
    """Return (N, K), the means of the rows (R, K) of each image; NaN where nothing is known."""
    place = {image: position for position, image in enumerate(images)}
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, len(images), values.shape[1]))
    rows = [place[name] for name in names]
    np.add.at(sums, rows, np.where(known, values, 0.0))
    np.add.at(counts, rows, known)
    means: np.ndarray = np.where(counts > 0, sums, np.nan) / np.maximum(counts, 1)
    return means


def _by_curve(flat: np.ndarray) -> dict[Mask, Curves]:
    """Return the curves that stand behind each other along the last axis."""
    shaped = flat.reshape(*flat.shape[:-1], len(_MASKS), len(CURVES), -1)
    return {
        mask: {name: shaped[..., place, curve, :] for curve, name in enumerate(CURVES)}
        for place, mask in enumerate(_MASKS)
    }


def _area(o: np.ndarray) -> np.ndarray:
    """Return the area (R,) under o (R, T) over t in [0, 1], by the trapezoidal rule."""
    area: np.ndarray = (o[:, 1:] + o[:, :-1]).mean(1) / 2
    return area


def _largest_share(gains: np.ndarray) -> float:
    """Return what one image contributes at most to the API of a level, as a share of all."""
    total = np.nansum(gains)
    return float(np.nanmax(gains) / total) if total > 0 else _UNKNOWN
