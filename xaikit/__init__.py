"""xaikit explains what a CNN saw in an image, and measures how good that explanation is.

clf = xaikit.load("resnet50")
x = clf.read("cat.jpg")
att = xaikit.attribute(clf, x, method="grad-cam")
att.heatmap()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xaikit.api import (
        attribute,
        attribute_many,
        build_library,
        get_measure,
        get_method,
        keep_curve,
        load,
        measure,
        measures,
        methods,
    )
    from xaikit.app.start import app
    from xaikit.foundation.errors import (
        BadChecksum,
        BadInput,
        LeftOut,
        MissingExtra,
        NoSuchLayer,
        UnknownName,
        XaikitError,
        XaikitWarning,
    )
    from xaikit.methods.activation.calibration import calibrate
    from xaikit.methods.activation.concepts import Concepts, concepts
    from xaikit.methods.activation.reference_library import Library
    from xaikit.model.classifier import Classifier
    from xaikit.model.target import Contrast
    from xaikit.run.attribution import Attribution
    from xaikit.run.context import Context
    from xaikit.run.showing import plot
    from xaikit.runs.folder import explain_files
    from xaikit.runs.measuring import benchmark
    from xaikit.runs.page import read_rows, write_report
    from xaikit.training.evaluate import evaluate
    from xaikit.training.train import train
else:
    # Loads the packages of these names; as attributes of xaikit they mean the public functions, by __getattr__ below.
    from xaikit import app, benchmark, measures, methods

    del app, benchmark, measures, methods

_HOMES = {
    "xaikit.app.start": "app",
    "xaikit.foundation.errors": "BadChecksum BadInput LeftOut MissingExtra NoSuchLayer UnknownName "
    "XaikitError XaikitWarning",
    "xaikit.methods.activation.calibration": "calibrate",
    "xaikit.methods.activation.concepts": "Concepts concepts",
    "xaikit.methods.activation.reference_library": "Library",
    "xaikit.model.classifier": "Classifier",
    "xaikit.model.target": "Contrast",
    "xaikit.run.attribution": "Attribution",
    "xaikit.run.context": "Context",
    "xaikit.run.showing": "plot",
    "xaikit.training.evaluate": "evaluate",
    "xaikit.training.train": "train",
    "xaikit.runs.folder": "explain_files",
    "xaikit.runs.measuring": "benchmark",
    "xaikit.runs.page": "read_rows write_report",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
"""Modules of the public names; those that are not listed are functions of `xaikit.api`."""

__all__ = [
    "Attribution",
    "BadChecksum",
    "BadInput",
    "Classifier",
    "Concepts",
    "Context",
    "Contrast",
    "LeftOut",
    "Library",
    "MissingExtra",
    "NoSuchLayer",
    "UnknownName",
    "XaikitError",
    "XaikitWarning",
    "app",
    "attribute",
    "attribute_many",
    "benchmark",
    "build_library",
    "calibrate",
    "concepts",
    "evaluate",
    "explain_files",
    "get_measure",
    "get_method",
    "keep_curve",
    "load",
    "measure",
    "measures",
    "methods",
    "plot",
    "read_rows",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that the command line starts without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'xaikit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF.get(name, "xaikit.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
