"""`xaikit train`: a network from a recipe, or from a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xaikit.cli.exit_codes import SOME_FAILED
from xaikit.cli.options import Device

if TYPE_CHECKING:
    from xaikit.zoo.recipe import Recipe


def command(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE.toml]", help="A recipe; or give --data.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="DIR/<class>/*.jpg, or DIR/train and DIR/val of that form.")
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="What is trained on --data, such as resnet18.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; that of the unchanged recipe if left out.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's.")] = None,
    device: Device = "auto",
) -> None:
    """Train a network; the folder written is a model name everywhere. A run that was stopped goes on."""
    from xaikit.cli.terminal import left_out, progress_bar
    from xaikit.foundation.errors import BadInput
    from xaikit.training.train import train

    asked = {name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    chosen = _recipe(recipe, data, arch, asked)
    if output is None and recipe is not None and not asked:
        output = recipe.parent
    if output is None:
        raise BadInput("train: expected a folder to write, got none; add -o DIR")
    with progress_bar() as bar, left_out() as bad:
        metrics = train(chosen, output, device=device, progress=bar.message)
    typer.echo(f"accuracy {metrics['accuracy']:.2%} after {metrics['seconds']:.0f} s; the model is in {output}")
    if bad:
        raise typer.Exit(SOME_FAILED)


def _recipe(recipe: Path | None, data: Path | None, arch: str | None, asked: dict[str, Any]) -> Recipe:
    """Return the recipe of the file, or one for the data, with what was asked for on top."""
    from xaikit.foundation.errors import BadInput
    from xaikit.zoo.recipe import Recipe

    if recipe is not None and (data is not None or arch is not None):
        raise BadInput("train: expected RECIPE.toml or --data and --arch, got both; leave one out")
    if recipe is not None:
        return Recipe.read(recipe).model_copy(update=asked)
    if data is None or arch is None:
        raise BadInput("train: expected RECIPE.toml, or --data DIR and --arch NAME; give one of them")
    if not data.is_dir():
        raise BadInput(f"{data}: expected a folder with one subfolder a class, got no folder; check the path")
    return Recipe.of(arch=arch, data=data.absolute().as_posix(), **asked)
