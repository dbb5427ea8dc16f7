"""`xaikit library`: writes the reference images of Libra-CAM to one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.exit_codes import SOME_FAILED
from xaikit.cli.lines import say, tell
from xaikit.cli.options import Device, Layer, Model, Weights


def command(
    model: Model,
    data: Annotated[Path, typer.Option("--data", help="A folder with one sub-folder per class.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write (.safetensors).")],
    weights: Weights = None,
    layer: Layer = None,
    device: Device = "auto",
    references: Annotated[int, typer.Option("--references", min=1, help="References kept for each class.")] = 30,
) -> None:
    """Build a library of reference images, for `explain --method libra-cam --library FILE`."""
    from xaikit.api import build_library, load
    from xaikit.cli.terminal import left_out, progress_bar
    from xaikit.foundation.files import output_directory
    from xaikit.run.context import Context

    output_directory(output.absolute().parent)
    classifier = load(model, weights=weights, device=device, layer=layer)
    with progress_bar() as bar, left_out() as bad:
        library = build_library(classifier, data, references, context=Context(progress=bar))
    library.save(output)
    counts = (library.places >= 0).sum(1).tolist()
    number = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    say(f"{number} references for each of {classifier.classes} classes are in {output}")
    if 0 in counts:
        first = classifier.labels[counts.index(0)] if classifier.labels else f"class {counts.index(0)}"
        more = f" and {counts.count(0) - 1} more" if counts.count(0) > 1 else ""
        tell(f"{first}{more}: expected references, got none; add images of other classes that are recognised")
    if bad:
        raise typer.Exit(SOME_FAILED)
