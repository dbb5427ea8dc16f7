"""`xaikit explain PATH...`: explains the predictions of a network for images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from xaikit.cli.exit_codes import INTERRUPTED, SOME_FAILED, WRONG
from xaikit.cli.lines import aside, flag_lines, say, say_json, tell
from xaikit.cli.options import Device, Json, Layer, Model, Plugins, Seed, Weights

if TYPE_CHECKING:
    from xaikit.explaining.run import Result
    from xaikit.images.reading import ReadPolicy
    from xaikit.methods.base import Method

_ROWS = 20  # maximal number of images in the table


def _path(text: str) -> Path:
    """Return a path; refuse an empty text (an unset shell variable), which would mean the working folder."""
    if not text:
        raise typer.BadParameter("expected a path, got an empty text")
    return Path(text)


def command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Images, and folders of images.", parser=_path)
    ],
    model: Model = "resnet50",
    weights: Weights = None,
    layer: Layer = None,
    device: Device = "auto",
    method: Annotated[
        list[str] | None, typer.Option("--method", help="`xaikit list methods`; may repeat. Default: grad-cam.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="What is explained: top, a class index or a label.")] = "top",
    against: Annotated[
        str | None, typer.Option("--against", help="Explain the target against this label, index or runner-up.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="[METHOD.]KEY=VALUE", help="A parameter; may repeat.")
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", help="References of libra-cam: a folder of class folders, or a file."),
    ] = None,
    seed: Seed = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for panels, overlays and values.")] = Path(
        "out"
    ),
    original: Annotated[
        bool, typer.Option("--original/--crop", help="Draw on the whole pictures, or on what the network saw.")
    ] = True,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw panels and overlays, or write values alone.")
    ] = True,
    resize: Annotated[str, typer.Option("--resize", help="weights (as they ask), squash, pad or native.")] = "weights",
    value_range: Annotated[
        str | None, typer.Option("--value-range", metavar="LOW,HIGH", help="Black and white of pictures over 8 bits.")
    ] = None,
    json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show flags and completeness.")] = False,
    plugin: Plugins = None,
) -> None:
    """Explain images: one panel per image, one overlay per method, attributions.npz and results.json."""
    from xaikit.api import load
    from xaikit.cli.terminal import progress_bar
    from xaikit.foundation.files import json_text
    from xaikit.foundation.texts import shown_command
    from xaikit.runs.folder import explain_files, image_files

    with aside():
        requests = _requests(method or ["grad-cam"], param or [], library, plugin or [])
    values = _range(value_range)
    inputs = len(image_files(paths, output))
    with aside(), progress_bar() as bar:
        classifier = load(model, weights=weights, device=device, layer=layer)
        result = explain_files(
            classifier,
            paths,
            [kind.build(classifier, **params) for kind, params in requests],
            output,
            target=_target(target, against),
            seed=seed,
            progress=bar,
            view="original" if original else "crop",
            pictures=pictures,
            value_range=values,
            resize=cast("ReadPolicy", resize),
            command=shown_command(["xaikit", *sys.argv[1:]]),
            notice=tell,
        )
    for line in flag_lines(result.records):
        tell(line)
    if json:
        say_json(json_text({"run": result.run, "records": list(result.records)}))
    else:
        _print(result, inputs, output, verbose)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.failed:
        raise typer.Exit(SOME_FAILED if result.done else WRONG)


def _range(text: str | None) -> tuple[float, float] | None:
    """Return the two numbers of a range."""
    from xaikit.foundation.errors import BadInput
    from xaikit.images.scaling import value_range

    if text is None:
        return None
    try:
        return value_range([float(number) for number in text.split(",")])
    except ValueError as error:
        raise BadInput(f"--value-range: expected LOW,HIGH, got {text!r}; for example 0,4095") from error


def _target(target: str, against: str | None) -> Any:
    """Return what is explained: a class, or its contrast with another."""
    from xaikit.model.target import Contrast

    explained = None if target == "top" else target
    if against is None:
        return explained
    return Contrast(explained, None if against == "runner-up" else against)


def _requests(
    names: Sequence[str], params: Sequence[str], library: Path | None, plugins: Sequence[Path]
) -> list[tuple[type[Method], dict[str, Any]]]:
    """Return the class and parameters of each method, checked as far as possible without a model."""
    from xaikit.api import get_method
    from xaikit.cli.parameters import parameters
    from xaikit.foundation.errors import BadInput
    from xaikit.foundation.registry import load_plugin

    for file in plugins:
        load_plugin(file)
    kinds = list(dict.fromkeys(get_method(name) for name in names))
    by_method = parameters(params, kinds)
    if library is not None:
        from xaikit.methods.activation.reference_library import Library

        takers = [kind.name for kind in kinds if "library" in kind.parameter_names()]
        if not takers:
            raise BadInput(
                f"--library: expected a method with a reference library, got {', '.join(names)}; add libra-cam"
            )
        references = library if library.is_dir() else Library.load(library)  # a folder needs the model
        for name in takers:
            by_method[name]["library"] = references
    return [(kind, by_method[kind.name]) for kind in kinds]


def _print(result: Result, files: int, output: Path, verbose: bool) -> None:
    """Print one line per image, or with `verbose` per image and method, and the output folder."""
    records = (record for record in result.records if "error" not in record)
    if not result.done:
        return
    if verbose:
        _print_records(records)
    else:
        _print_images(records, result.done, output)
    of = f" of {files}" if result.done < files else ""
    methods = _counted(len(result.run["methods"]), "method")
    say()
    say(f"{_counted(result.done, 'image', of)}, {methods}, {result.run['seconds']:.1f} s; see {output}")


def _counted(number: int, word: str, of: str = "") -> str:
    return f"{number}{of} {word}{'' if number == 1 and not of else 's'}"


def _print_images(records: Iterable[dict[str, Any]], count: int, output: Path) -> None:
    """Print the first images."""
    from xaikit.cli.terminal import print_table

    first: dict[str, dict[str, Any]] = {}
    for record in records:
        first.setdefault(_name(record), record)
        if len(first) == _ROWS:
            break
    panels = {name: record["outputs"].get("panel") for name, record in first.items()}
    lines = [
        (Path(name).name, record["label"], _percent(record), str(output / panels[name]) if panels[name] else "")
        for name, record in first.items()
    ]
    print_table(("image", "class", "probability", "panel"), lines, right=("probability",))
    if count > _ROWS:
        say(f"... and {count - _ROWS} more")


def _print_records(records: Iterable[dict[str, Any]]) -> None:
    from xaikit.cli.terminal import print_table

    rows = [
        (
            Path(_name(record)).name,
            record["method"],
            record["layer"] or "",
            record["label"],
            _percent(record),
            ", ".join(record["flags"]),
            _number(record["completeness"]),
        )
        for record in records
    ]
    columns = ("image", "method", "layer", "class", "probability", "flags", "completeness")
    print_table(columns, rows, right=("probability", "completeness"))


def _name(record: dict[str, Any]) -> str:
    """Return the name of the files of an image, with its folder."""
    return str(record["outputs"]["values"]).removesuffix(f"/{record['method']}")


def _percent(record: dict[str, Any]) -> str:
    return "" if record["probability"] is None else f"{100 * record['probability']:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
