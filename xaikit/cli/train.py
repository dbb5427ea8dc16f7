"""`xaikit train`: trains a network from a recipe or on a folder of labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.evaluate import show
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
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Weights to begin with: a file, a folder that train wrote, or a name."),
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Begin with random weights.")] = False,
    freeze: Annotated[bool | None, typer.Option("--freeze", help="Train the new head alone.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="Peak learning rate; 0.001 if left out.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images per step; 32 if left out.")] = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the input in pixels.")] = None,
    flip: Annotated[float | None, typer.Option("--flip", help="Share of mirrored images.")] = None,
    crop: Annotated[float | None, typer.Option("--crop", help="Smallest area of a random crop, 1 for none.")] = None,
    rotate: Annotated[float | None, typer.Option("--rotate", help="Largest random rotation in degrees.")] = None,
    colour: Annotated[
        float | None, typer.Option("--colour", help="Largest random change of brightness and contrast, in [0, 1].")
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option("--class-weights", help="balanced (rare classes weigh more) or equal.")
    ] = None,
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
    if from_scratch and weights is not None:
        raise BadInput("train: expected --weights or --from-scratch, got both; leave one out")
    options = {
        "data": place,
        "arch": arch,
        "epochs": epochs,
        "seed": seed,
        "weights": "random" if from_scratch else weights,
        "freeze": freeze,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "size": size,
        "flip": flip,
        "crop": crop,
        "rotate": rotate,
        "colour": colour,
        "class_weights": class_weights,
    }
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
    show(metrics.get("test", metrics), "test images, evaluated once" if "test" in metrics else "held-out images")
    say(f"accuracy {metrics['accuracy']:.2%} after {metrics['seconds']:.0f} s; the model is in {folder}")
    if bad:
        raise typer.Exit(SOME_FAILED)


def _show(row: Mapping[str, float]) -> None:
    say(
        f"epoch {row['epoch']}: loss {row['training_loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
        f"accuracy {row['validation_accuracy']:.2%}, macro F1 {row['validation_macro_f1']:.4f}"
    )
