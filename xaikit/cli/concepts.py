"""`xaikit concepts`: a figure of the patterns that a layer knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.lines import say
from xaikit.cli.options import Device, Layer, Model, Weights


def command(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Images, and folders of images.")],
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="The figure to write (.png).")],
    weights: Weights = None,
    layer: Layer = None,
    device: Device = "auto",
    count: Annotated[int, typer.Option("--count", min=1, help="Number of concepts.")] = 5,
) -> None:
    """Draw the patterns of channels that come up again and again in a layer, over all images."""
    from xaikit import concepts, load
    from xaikit.cli.terminal import progress_bar
    from xaikit.foundation.files import output_directory
    from xaikit.images.folders import walk
    from xaikit.images.reading import save_png
    from xaikit.run.context import Context

    output_directory(output.absolute().parent)
    classifier = load(model, weights=weights, device=device, layer=layer)
    with progress_bar() as bar:
        found = concepts(classifier, walk(paths), count, context=Context(progress=bar))
    save_png(output, found.plot().pixels)
    for title in found.titles():
        say(f"concept {title}")
    say(f"{100 * found.rest:.2g} % of the squared activations at {found.layer} are in none; the figure is {output}")
