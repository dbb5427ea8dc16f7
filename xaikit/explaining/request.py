"""The identity of what an explain run is asked: a hash of everything that can change its values, except the pictures.

    network (weights, code, preprocessing, reading) | methods (parameters, layer, code) | target | seed | device | files

Two runs with one identity give each picture the same values, so that the second can continue the first.
"""

import hashlib
import inspect
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

import xaikit
from xaikit.foundation.identity import SCHEMA_VERSION, fingerprint
from xaikit.methods.base import LayerMethod, Method
from xaikit.model.function import BlackBox
from xaikit.run.context import Context


def request(methods: Sequence[Method], target: Any, context: Context, files: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that identify a run, without the content of its pictures.

    A plain function as network has no content that can be compared: each run of it has an identity of its own.
    """
    classifier = methods[0].classifier
    known = secrets.token_hex(8) if isinstance(classifier.module, BlackBox) else classifier.fingerprint
    return fingerprint(
        {
            "schema": SCHEMA_VERSION,
            "network": [known, classifier.name, classifier.weights, classifier.labels, classifier.size],
            "resize": _content(classifier.resize),
            "methods": [_method(method) for method in methods],
            "code": list(_code([*map(type, methods), *map(type, classifier.module.modules())])),
            "torch": torch.__version__,
            "device": str(classifier.device),
            "precision": context.precision,
            "target": target,
            "seed": context.seed,
            "files": list(files),
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


def _code(kinds: Sequence[type]) -> Iterator[str]:
    """Yield a hash of each source file that defines one of the classes, and of xaikit's own."""
    package = Path(xaikit.__file__).parent
    files = set(package.rglob("*.py"))
    for kind in set(kinds):
        try:
            files.add(Path(inspect.getfile(kind)))
        except (TypeError, OSError):  # written in C, or typed into a session
            yield f"{kind.__module__}.{kind.__qualname__}"
    for file in sorted(files):
        if file.is_file():
            yield hashlib.sha256(file.read_bytes()).hexdigest()
