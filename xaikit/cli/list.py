"""`xaikit list methods|measures|models|flags`: lists what is registered."""

from __future__ import annotations

import json as jsonlib
from enum import StrEnum
from typing import Annotated, Any, get_args

import typer

from xaikit.cli.lines import aside, say, say_json
from xaikit.cli.options import Json, Plugins
from xaikit.foundation.docstrings import title


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
    from xaikit.cli.terminal import print_groups, print_table
    from xaikit.foundation.registry import load_plugin

    with aside():
        for file in plugin or []:
            load_plugin(file)
        families = _families(backends) if kind is Kind.METHODS and not json else {}
        listed = {Kind.MEASURES: _measures, Kind.MODELS: _models, Kind.FLAGS: _flags}
        rows = listed[kind]() if kind in listed else [] if families else _methods(backends)
    if families:
        print_groups(families)
        say("`xaikit help NAME` explains one.")
    elif json:
        say_json(jsonlib.dumps(rows, indent=1, ensure_ascii=False))
    elif rows:
        print_table(list(rows[0]), [[_text(value) for value in row.values()] for row in rows])


def _families(backends: bool) -> dict[str, dict[str, str]]:
    """Return what each method is in one sentence, by family and name."""
    from xaikit.methods.base import METHODS, Family

    families: dict[str, dict[str, str]] = {family: {} for family in get_args(Family)}
    for name in METHODS.names(guests=backends):
        entry = METHODS.get(name)
        families[entry.family][name] = title(entry)
    return {family: titles for family, titles in families.items() if titles}


def _methods(backends: bool) -> list[dict[str, Any]]:
    """Return the facts of every method, with its cost for one image on resnet50 with default parameters."""
    from xaikit.cli.passes import passes
    from xaikit.methods.base import METHODS

    return [
        {
            "name": name,
            "family": entry.family,
            "meaning": title(entry),
            "signed": entry.signed,
            "cost": str(passes(entry)),
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
