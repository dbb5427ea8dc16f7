"""Rows to numbers: what each method scored, over images and thresholds.

    API_j = mean_i max(o_ij - y_i, 0) / y_i      APD_j = mean_i max(y_i - o_ij, 0) / y_i
    IR_j  = mean_i 1[o_ij > y_i]                 DR_j  = mean_i 1[o_ij < y_i]       ties_j = 1 - IR_j - DR_j
    KeepAUC = mean_i trapz_t o_i(t)

A row is one image explained by one method, with its raw y and o; every number of a report is computed here from rows
alone. A row that has an `error`, or whose map was invalid, is left out of the means and counted.

Shapes: y (N,), o (N, T) for T thresholds t = j / J; curves (T,).
Source: the API, APD, IR and DR of Lee and Han, IJCAI 2022, read at every threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from xaikit.core.errors import BadInput

__all__ = ["CURVES", "Curves", "Mask", "Result", "Row", "aggregate", "blocks"]

Row = Mapping[str, Any]
Mask = Literal["soft", "binary"]
Curves = dict[str, np.ndarray]

CURVES = ("api", "apd", "ir", "dr", "ties", "confidence")

_NEEDED = ("image_id", "method", "family", "dataset", "model", "levels", "y", "o_soft", "o_binary")
_MEANS = ("map_mean", "pointing", "energy_inside", "ms", "forwards", "backwards")
_MEASURE = "measure."
_SMALLEST_Y = 1e-12  # only against 0 / 0


@dataclass(frozen=True)
class Result:
    """What one method scored.

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
        scalars: by name: keep_auc_soft, keep_auc_binary, api, apd, ir, dr and ties at t = 0 under soft masks, the
            largest share of one image in that API, and the means of cost, map and localisation; NaN where unknown.
        measures: mean by the name of each measure of the rows; NaN where unknown.
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

    @property
    def is_control(self) -> bool:
        """A baseline that explains nothing and stands beside every method."""
        return self.family == "control"


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
    """Return one result a method, in order of appearance, the controls last."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    results = [_result(method, own) for method, own in by_method.items()]
    return sorted(results, key=lambda result: result.is_control)


def _result(method: str, rows: Sequence[Row]) -> Result:
    flags = [flag for row in rows for flag in row.get("flags") or ()]
    good = [row for row in rows if not row.get("error") and "invalid" not in (row.get("flags") or ())]
    first = rows[0]
    levels = int(first["levels"])
    y = np.array([row["y"] for row in good], dtype=np.float64)
    o = {mask: _outputs(good, f"o_{mask}", levels) for mask in get_args(Mask)}
    curves = {mask: _curves(y, o[mask]) for mask in o}
    scalars = {name: _mean([row.get(name) for row in good]) for name in _MEANS}
    scalars |= {f"keep_auc_{mask}": _mean(_area(o[mask])) for mask in o}
    scalars |= {name: float(curves["soft"][name][0]) for name in ("api", "apd", "ir", "dr", "ties")}
    scalars["api_largest_share"] = _largest_share(y, o["soft"][:, 0])
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
        curves=curves,
        scalars=scalars,
        measures={
            name.removeprefix(_MEASURE): _mean([row.get(name) for row in good])
            for name in dict.fromkeys(name for row in rows for name in row if name.startswith(_MEASURE))
        },
    )


def _outputs(rows: Sequence[Row], column: str, levels: int) -> np.ndarray:
    lengths = {len(row[column]) for row in rows} - {levels + 1}
    if lengths:
        raise BadInput(f"rows: expected {levels + 1} values in {column}, got {min(lengths)}; score them alike")
    return np.array([row[column] for row in rows], dtype=np.float64).reshape(len(rows), levels + 1)


def _curves(y: np.ndarray, o: np.ndarray) -> Curves:
    if not len(y):
        return {name: np.full(o.shape[1], np.nan) for name in CURVES}
    before = y[:, None]
    change = (o - before) / np.maximum(before, _SMALLEST_Y)
    rise, drop = (o > before).mean(0), (o < before).mean(0)
    return {
        "api": np.maximum(change, 0).mean(0),
        "apd": np.maximum(-change, 0).mean(0),
        "ir": rise,
        "dr": drop,
        "ties": (o == before).mean(0),
        "confidence": o.mean(0),
    }


def _area(o: np.ndarray) -> np.ndarray:
    """Return the area (N,) under o (N, T) over t in [0, 1], by the trapezoidal rule."""
    area: np.ndarray = (o[:, 1:] + o[:, :-1]).mean(1) / 2
    return area


def _largest_share(y: np.ndarray, o: np.ndarray) -> float:
    """Return what one image contributes at most to the API of a level, as a share of all."""
    gains = np.maximum(o - y, 0) / np.maximum(y, _SMALLEST_Y)
    return float(gains.max() / gains.sum()) if gains.sum() > 0 else float("nan")


def _mean(values: Sequence[Any] | np.ndarray) -> float:
    """Return the mean of what is known, NaN of nothing."""
    known = [float(value) for value in values if value is not None and value == value]
    return float(np.mean(known)) if known else float("nan")
