"""`xaikit benchmark`: measures methods x measures x images, resuming earlier runs, and writes a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xaikit.cli.exit_codes import SOME_FAILED
from xaikit.cli.lines import say, tell
from xaikit.cli.options import Device, Layer, Plugins, Weights

if TYPE_CHECKING:
    from xaikit.benchmark.suite import Suite

_REASONS = 20  # maximal number of failures printed


def command(
    suite: Annotated[Path | None, typer.Argument(metavar="[SUITE.toml]", help="A suite; or give --model ...")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Instead of a suite: the network; may repeat.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Images, or one sub-folder per class; replaces a suite's data."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Evidence of --data: folder of masks, .csv of boxes, or COCO .json.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Instead of a suite; may repeat.")] = None,
    measure: Annotated[
        list[str] | None, typer.Option("--measure", help="`xaikit list measures`; may repeat. Default: the usual ones.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of rows and report.")] = Path("out"),
    engine: Annotated[Literal["local", "ray"], typer.Option("--engine", help="Where to compute.")] = "local",
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Maximal number of images.")] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Every N-th block of 16 images, from the I-th."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed units again.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Actors of the ray engine.")] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Address of a ray cluster, HOST:PORT or auto.")
    ] = None,
    weights: Weights = None,
    layer: Layer = None,
    device: Device = "auto",
    plugin: Plugins = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw the images of the report (not with --shard).")
    ] = True,
) -> None:
    """Measure explanations. Run it again to continue where it stopped; finished work is not repeated."""
    from xaikit.cli.terminal import progress_bar
    from xaikit.foundation.errors import BadInput
    from xaikit.foundation.registry import load_plugin
    from xaikit.foundation.texts import shown_command
    from xaikit.runs.measuring import carried_out

    for file in plugin or []:
        load_plugin(file)
    index_and_count = None if shard is None else _shard(shard)
    if masks is not None and data is None:
        raise BadInput("--masks: expected --data with it, got none; name the masks of a suite in its data")
    definition = _suite(suite, model or [], data, method or [], measure or [], weights, layer)
    if masks is not None:
        definition = definition.model_copy(
            update={"data": definition.data.model_copy(update={"masks": masks.absolute()})}
        )
    if limit is not None:
        definition = definition.model_copy(update={"data": definition.data.model_copy(update={"limit": limit})})
    with progress_bar() as bar:
        outcome = carried_out(
            definition,
            output,
            pictures=pictures,
            engine=engine,
            device=device,
            shard=index_and_count,
            retry_failed=retry_failed,
            workers=workers,
            address=address,
            plugins=plugin or (),
            progress=bar,
            notice=tell,
            command=shown_command(["xaikit", *sys.argv[1:]]),
        )
    if shard is not None and not outcome.units:
        say("no image is in this shard")
        return
    for image, name, reason in outcome.failed[:_REASONS] if not outcome.computed else []:
        tell(f"{image}: {name}: {reason}")
    say(f"{outcome.done:,} of {outcome.units:,} units; see {output / 'report.html'}")
    if outcome.failed:
        raise typer.Exit(SOME_FAILED)


def _shard(text: str) -> tuple[int, int]:
    from xaikit.foundation.errors import BadInput

    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise BadInput(f"--shard: expected I/N, got {text!r}")
    return int(index), int(count)


def _suite(
    file: Path | None,
    models: list[str],
    data: Path | None,
    methods: list[str],
    measures: list[str],
    weights: str | None,
    layer: str | None,
) -> Suite:
    """Return the suite of a file, or the suite that the options define."""
    from xaikit.benchmark.suite import Suite
    from xaikit.foundation.errors import BadInput

    if file is not None:
        if models or methods or measures or weights is not None or layer is not None:
            raise BadInput("benchmark: expected SUITE.toml or --model, --method and --measure, got both; leave one out")
        suite = Suite.read(file)
        return suite if data is None else suite.with_data(data)
    if not models or data is None or not methods:
        raise BadInput("benchmark: expected SUITE.toml, or --model M --data DIR --method NAME, got neither")
    if len(models) > 1 and (weights is not None or layer is not None):
        raise BadInput("--weights, --layer: expected one --model with them, got several; write a suite")
    optional: dict[str, Any] = {"measures": list(dict.fromkeys(measures))} if measures else {}
    return Suite.of(
        models=[{"name": model, "weights": weights, "layer": layer} for model in dict.fromkeys(models)],
        data={"kind": "auto", "path": data.absolute()},
        methods=list(dict.fromkeys(methods)),
        **optional,
    )
