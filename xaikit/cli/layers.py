"""`xaikit layers MODEL`: lists the layers that activation methods can use; needs no weights."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

import typer

from xaikit.cli.lines import say, say_json
from xaikit.cli.options import Device, Json, Layer, Weights


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A torchvision name, a shipped model, or a folder that train wrote.")
    ],
    weights: Weights = None,
    layer: Layer = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """List the layers of a model with their shapes; the default target layer is marked."""
    from xaikit.api import load
    from xaikit.cli.terminal import print_table

    classifier = load(model, weights=weights or "random", device=device, layer=layer)
    layers, default = classifier.layers(), classifier.layer
    if json:
        say_json(jsonlib.dumps({"model": classifier.name, "default": default, "layers": layers}, indent=1))
        return
    rows = [
        (name, " x ".join(str(number) for number in shape), "default" if name == default else "")
        for name, shape in layers.items()
    ]
    print_table(("layer", "channels x height x width", ""), rows)
    if default not in layers:
        say()
        say(f"default: {default}")
