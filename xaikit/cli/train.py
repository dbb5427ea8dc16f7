"""`xaikit train`: trains a network from a recipe or on a folder of labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.exit_codes import INTERRUPTED, SOME_FAILED
from xaikit.cli.lines import say, tell
from xaikit.cli.options import Device


def command(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE.toml]", help="A recipe; or give --data.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="DIR/<class>/*.jpg, or DIR/train, DIR/val, DIR/test of that form.")
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="Architecture to train, such as resnet18.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; that of the unchanged recipe if left out.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes over the images; more extend a finished run.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random draw.")] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
) -> None:
    """Train a network; every command accepts the output folder as a model. A stopped run continues."""
    from xaikit import train
    from xaikit.cli.terminal import left_out, progress_bar
    from xaikit.foundation.errors import BadInput

    if recipe is not None and (data is not None or arch is not None):
        raise BadInput("train: expected RECIPE.toml or --data and --arch, got both; leave one out")
    if recipe is None and (data is None or arch is None):
        raise BadInput("train: expected RECIPE.toml, or --data DIR and --arch NAME, got neither")
    if data is not None and not data.is_dir():
        raise BadInput(f"{data}: expected a folder with one subfolder per class, got no folder; check the path")
    place = None if data is None else data.absolute().as_posix()
    options = {"data": place, "arch": arch, "epochs": epochs, "seed": seed}
    settings = {key: value for key, value in options.items() if value is not None}
    with progress_bar() as bar, left_out() as bad:
        try:
            metrics = train(
                recipe, output, device=device, overwrite=overwrite, progress=bar.message, report=_show, **settings
            )
        except KeyboardInterrupt as stop:
            tell(str(stop))
            raise typer.Exit(INTERRUPTED) from stop
    folder = output or (recipe.parent if recipe else "")
    say(f"accuracy {metrics['accuracy']:.2%} after {metrics['seconds']:.0f} s; the model is in {folder}")
    if bad:
        raise typer.Exit(SOME_FAILED)


def _show(row: Mapping[str, float]) -> None:
    say(
        f"epoch {row['epoch']}: loss {row['training_loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
        f"accuracy {row['validation_accuracy']:.2%}, macro F1 {row['validation_macro_f1']:.4f}"
    )
