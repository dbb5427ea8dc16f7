"""`xaikit train`: trains a network from a recipe or on a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xaikit.cli.exit_codes import SOME_FAILED
from xaikit.cli.lines import say
from xaikit.cli.options import Device

if TYPE_CHECKING:
    from xaikit.zoo.recipe import Recipe


def command(
    recipe: Annotated[Path | None, typer.Argument(metavar="[RECIPE.toml]", help="A recipe; or give --data.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="DIR/<class>/*.jpg, or DIR/train, DIR/val, DIR/test of that form.")
    ] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="Architecture to train, such as resnet18.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; that of the unchanged recipe if left out.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the recipe's.")] = None,
    device: Device = "auto",
) -> None:
    """Train a network; every command accepts the output folder as a model. A stopped run continues."""
    from xaikit.cli.terminal import left_out, progress_bar
    from xaikit.foundation.errors import BadInput
    from xaikit.training.train import train

    changes = {name: value for name, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    settings = _recipe(recipe, data, arch, changes)
    if output is None and recipe is not None and not changes:
        output = recipe.parent
    if output is None:
        raise BadInput("train: expected a folder to write, got none; add -o DIR")
    with progress_bar() as bar, left_out() as bad:
        metrics = train(settings, output, device=device, progress=bar.message)
    say(f"accuracy {metrics['accuracy']:.2%} after {metrics['seconds']:.0f} s; the model is in {output}")
    if bad:
        raise typer.Exit(SOME_FAILED)


def _recipe(recipe: Path | None, data: Path | None, arch: str | None, changes: dict[str, Any]) -> Recipe:
    from xaikit.foundation.errors import BadInput
    from xaikit.zoo.recipe import Recipe

    if recipe is not None and (data is not None or arch is not None):
        raise BadInput("train: expected RECIPE.toml or --data and --arch, got both; leave one out")
    if recipe is not None:
        return Recipe.read(recipe).model_copy(update=changes)
    if data is None or arch is None:
        raise BadInput("train: expected RECIPE.toml, or --data DIR and --arch NAME, got neither")
    if not data.is_dir():
        raise BadInput(f"{data}: expected a folder with one subfolder per class, got no folder; check the path")
    return Recipe.of(arch=arch, data=data.absolute().as_posix(), **changes)
