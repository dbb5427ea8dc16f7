"""What a benchmark does unless told otherwise: every control, and measures that explain once and cost little.

Names that nothing is registered under are passed over; measures of masks are left out where data have none.
"""

from __future__ import annotations

from typing import Any

from xaikit.measures.base import MEASURES
from xaikit.methods.base import METHODS

_MEASURES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("keep-auc", {}, "keep-auc-soft"),
    ("api", {}, "api"),
    ("apd", {}, "apd"),
    ("ir", {}, "ir"),
    ("dr", {}, "dr"),
    ("tie-rate", {}, "tie-rate"),
    ("average-gain", {}, "average-gain"),
    ("mean-map", {}, "mean-map"),
    ("keep-auc", {"mask": "binary"}, "keep-auc-binary"),
    ("srg", {}, "srg"),
    ("faithfulness-correlation", {}, "faithfulness-correlation"),
    ("pointing-game", {}, "pointing-game"),
    ("energy-inside", {}, "energy-inside"),
    ("rank-accuracy", {}, "rank-accuracy"),
    ("iou", {}, "iou"),
    ("average-precision", {}, "average-precision"),
    ("sparseness", {}, "sparseness"),
    ("entropy", {}, "entropy"),
    ("completeness-gap", {}, "completeness-gap"),
)


def default_controls() -> list[str]:
    """Return the names of the methods that explain nothing."""
    return METHODS.names(lambda entry: entry.family == "control")


def default_measures() -> list[dict[str, Any]]:
    """Return the measures that are on by default: name, params and label."""
    known = set(MEASURES.names())
    return [{"name": name, "params": params, "label": label} for name, params, label in _MEASURES if name in known]
