"""The identity of what an explain run is asked: a hash of everything that can change its results, except the pictures.

    network (weights, code, preprocessing, reading) | methods (parameters, layer, code) | target | seed | device | files
    | view | range of values

Two runs with one identity give each picture the same results, so that the second can continue the first.
"""

import secrets
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from xaikit.foundation.code import code, network_code, own_code, versions
from xaikit.foundation.identity import SCHEMA_VERSION, fingerprint
from xaikit.images.reading import Resize
from xaikit.images.scaling import Range
from xaikit.methods.base import LayerMethod, Method
from xaikit.model.function import BlackBox
from xaikit.run.attribution import View
from xaikit.run.context import Context


def request(
    methods: Sequence[Method],
    target: Any,
    context: Context,
    files: Sequence[str],
    resizing: Resize,
    view: View | None = "original",
    value_range: Range | None = None,
) -> str:
    """Return 16 hexadecimal digits that identify a run, without the content of its pictures.

    Without pictures, `view` is None. A plain function as network has no content that can be compared: each run of it
    has an identity of its own.
    """
    classifier = methods[0].classifier
    known = secrets.token_hex(8) if isinstance(classifier.module, BlackBox) else classifier.fingerprint
    inner = [type(method.inner) for method in methods if hasattr(method, "inner")]  # run on noisy copies
    return fingerprint(
        {
            "schema": SCHEMA_VERSION,
            "network": [known, classifier.name, classifier.weights, classifier.labels, classifier.size],
            "resize": _content(resizing),
            "methods": [_method(method) for method in methods],
            "code": [own_code(), code(*map(type, methods), *inner), network_code(classifier.module)],
            "versions": versions(),
            "device": str(classifier.device),
            "precision": context.precision,
            "target": _content(target),
            "seed": context.seed,
            "files": list(files),
            "view": view,
            "value_range": value_range,
        }
    )


def _method(method: Method) -> Any:
    layer = str(method.place) if isinstance(method, LayerMethod) else None
    return [method.name, {name: _content(value) for name, value in method.params.items()}, layer]


def _content(value: Any) -> Any:
    """Return a parameter with the contents of dataclasses, such as a library, in place of their names."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _content(getattr(value, field.name)) for field in fields(value) if field.name != "classifier"
        }
    return value
