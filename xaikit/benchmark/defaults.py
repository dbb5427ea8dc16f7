"""The defaults of a benchmark: every control, and the measures that explain each image once and cost little.

Names that are not registered are skipped; measures that need masks are skipped when the data have none.
"""

from typing import Any

from xaikit.measures.base import MEASURES
from xaikit.methods.base import METHODS

_MEASURES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("keep-auc", {}, "keep-auc-soft"),
    ("keep-auc", {"mask": "binary"}, "keep-auc-binary"),
    ("api", {}, "api"),
    ("apd", {}, "apd"),
    ("ir", {}, "ir"),
    ("dr", {}, "dr"),
    ("tie-rate", {}, "tie-rate"),
    ("average-gain", {}, "average-gain"),
    ("mean-map", {}, "mean-map"),
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
    """Return the names of the control methods."""
    return METHODS.names(lambda entry: entry.family == "control")


def default_measures() -> list[dict[str, Any]]:
    """Return name, params and label of the default measures."""
    registered = set(MEASURES.names())
    return [{"name": name, "params": params, "label": label} for name, params, label in _MEASURES if name in registered]
