"""`xaikit list methods|measures|models|flags`: lists what is registered."""

from __future__ import annotations

import json as jsonlib
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xaikit.cli.lines import aside, say_json
from xaikit.cli.options import Json, Plugins

if TYPE_CHECKING:
    from xaikit.model.classifier import Classifier

_SIZE = (224, 224)


class Kind(StrEnum):
    """The kinds of entries that can be listed."""

    METHODS = "methods"
    MEASURES = "measures"
    MODELS = "models"
    FLAGS = "flags"


Backends = Annotated[bool, typer.Option("--backends", help="Add the methods of captum, pytorch-grad-cam and others.")]


def command(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    json: Json = False,
    backends: Backends = False,
    plugin: Plugins = None,
) -> None:
    """List methods, measures, models, or the flags of maps with what they mean."""
    from xaikit.cli.terminal import print_table
    from xaikit.foundation.registry import load_plugin

    with aside():
        for file in plugin or []:
            load_plugin(file)
        listed = {Kind.MEASURES: _measures, Kind.MODELS: _models, Kind.FLAGS: _flags}
        rows = _methods(backends) if kind is Kind.METHODS else listed[kind]()
    if json:
        say_json(jsonlib.dumps(rows, indent=1, ensure_ascii=False))
    elif rows:
        print_table(list(rows[0]), [[_text(value) for value in row.values()] for row in rows])


def _methods(backends: bool) -> list[dict[str, Any]]:
    """Return the facts of every method, with its cost for one image on resnet50 with default parameters."""
    from xaikit.methods.base import METHODS

    return [
        {
            "name": name,
            "family": entry.family,
            "signed": entry.signed,
            "cost": str(entry(_resnet50()).cost(_SIZE)),
            "parameters": entry.parameter_names(),
            "source": entry.source,
        }
        for name, entry in ((name, METHODS.get(name)) for name in METHODS.names(guests=backends))
    ]


def _measures() -> list[dict[str, Any]]:
    from xaikit.measures.base import MEASURES

    return [
        {"name": name, "direction": entry.direction, "range": list(entry.range), "source": entry.source}
        for name, entry in ((name, MEASURES.get(name)) for name in MEASURES.names())
    ]


def _flags() -> list[dict[str, Any]]:
    from xaikit.foundation.flags import FLAGS

    return [{"flag": name, "meaning": flag.meaning, "what to do": flag.remedy} for name, flag in sorted(FLAGS.items())]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@cache
def _resnet50() -> Classifier:
    from xaikit.zoo.load import load

    return load("resnet50", weights="random", device="cpu")


def _models() -> list[dict[str, Any]]:
    from xaikit.zoo.catalogue import models

    return [
        {
            "name": model.name,
            "source": model.source,
            "weights": model.weights or {"shipped": "shipped"}.get(model.source, "--weights FILE"),
            "size": model.size,
            "licence": model.licence,
        }
        for model in models().values()
    ]
