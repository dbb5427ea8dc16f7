"""`xaikit demo`: all of xaikit in one command and without network: explain, measure, report.

suite -> images drawn to DIR/images -> explain (panels, overlays, results.json) -> score (rows.json) -> report.html
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Sheet
from rich.text import Text

from xaikit.cli.terminal import progress_bar

if TYPE_CHECKING:
    from xaikit.bench.score import Images
    from xaikit.bench.suite import Suite
    from xaikit.core.classifier import Classifier
    from xaikit.data.synthetic import Scene
    from xaikit.report.tables import Line, Table

__all__ = ["command"]

_DATASET = "texture in shape"
_PRINTED = {
    "keep_auc_soft": "KeepAUC\nsoft",
    "keep_auc_binary": "KeepAUC\nbin.",
    "api": "API",
    "apd": "APD",
    "ir": "IR",
    "dr": "DR",
    "map_mean": "map\nmean",
    "ms": "ms",
    "forwards": "passes",
}
_STYLES = {"best": "bold", "second": "underline", "": ""}
_NARROWEST = 80


def command(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("out/demo"),
) -> None:
    """Explain drawn images by several methods, measure the explanations and write a report."""
    from xaikit.api import load
    from xaikit.bench.environment import environment
    from xaikit.bench.score import score
    from xaikit.bench.suite import Suite
    from xaikit.core.context import Context
    from xaikit.core.files import output_directory, shipped, write_json
    from xaikit.data.synthetic import draw
    from xaikit.explain import explain
    from xaikit.report.aggregate import aggregate
    from xaikit.report.page import write_report
    from xaikit.report.tables import summary_table

    suite = Suite.read(shipped("suites/demo.toml"))
    again = shlex.join(["xaikit", "demo", "-o", output.as_posix()])
    output = output_directory(output)
    with _one_thread(), progress_bar() as progress:
        classifier = load(suite.model)
        scene = draw(suite.images.count, suite.images.seed)
        images = _written(scene, classifier, output)
        methods = suite.bind(classifier, _library(suite, classifier))
        context = Context(seed=suite.seed, progress=progress)
        files = [(output / "images" / name, None) for name in images.names]
        explained = explain(files, methods, output, _draw, context=context, command=again)
        if explained.interrupted:
            raise typer.Abort
        rows = score(methods, images, context=context)
        where = environment(classifier)
    explaining = sum(method.family != "control" for method in methods)
    run = {
        "title": f"How well do {explaining} methods explain {suite.model}?",
        "command": again,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seed": suite.seed,
        "environment": where,
    }
    write_json(output / "rows.json", rows)
    write_json(output / "run.json", run)
    write_report(output / "report.html", rows, run, _pictures(explained.records, images.names, output))
    _print(summary_table(aggregate(rows)), f"{suite.model}, {len(images.names)} images of {_DATASET}", output)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one core: in so small a network several threads wait for each other more than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _written(scene: Scene, classifier: Classifier, output: Path) -> Images:
    """Write the images, and the same with all but their evidence paled, as PNG; return them as they are read again."""
    import numpy as np

    from xaikit.bench.score import Images
    from xaikit.core.files import output_directory
    from xaikit.core.image import save_png
    from xaikit.data.synthetic import CLASSES

    folders = {name: output_directory(output / name) for name in ("images", "evidence")}
    names = [f"{place:03d}-{CLASSES[label].replace(' ', '-')}.png" for place, label in enumerate(scene.labels.tolist())]
    pictures = (scene.pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for name, picture, evidence in zip(names, pictures, scene.objects.numpy(), strict=True):
        save_png(folders["images"] / name, picture)
        paled = (0.15 * picture + 0.85 * 255).astype(np.uint8)
        save_png(folders["evidence"] / name, np.where(evidence[..., None], picture, paled))
    pixels = classifier.read([folders["images"] / name for name in names])
    return Images(_DATASET, names, pixels, scene.labels, scene.objects)


def _library(suite: Suite, classifier: Classifier) -> Any:
    """Return Libra-CAM's references, drawn like the images but others; None leaves them to the method."""
    from xaikit.api import build_library
    from xaikit.data.synthetic import draw

    if suite.library is None:
        return None
    scene = draw(suite.library.count, suite.library.seed)
    return build_library(classifier, [(scene.pixels, scene.labels)], suite.library.references)


def _draw(picture: Any, maps: Sequence[tuple[Any, ...]], caption: str, title: str) -> tuple[Any, Mapping[str, Any]]:
    from xaikit.report.overlay import Map, illustrate

    return illustrate(picture, [Map(*one) for one in maps], caption, title)


def _pictures(records: Sequence[Mapping[str, Any]], names: Sequence[str], output: Path) -> dict[str, dict[str, Path]]:
    """Return the report's pictures by image and method."""
    pictures = {name: {"input": output / "images" / name, "evidence": output / "evidence" / name} for name in names}
    for record in records:
        if "error" not in record:
            pictures[Path(record["file"]).name][record["method"]] = output / record["outputs"]["overlay"]
    return pictures


def _print(table: Table, title: str, output: Path) -> None:
    """Print the summary and where everything is."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_NARROWEST)
    sheet = Sheet(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=0)
    places = [place for place, column in enumerate(table.columns) if column.key in _PRINTED]
    sheet.add_column("method", no_wrap=True)
    for column in (table.columns[place] for place in places):
        arrow = f" {column.arrow}" if column.ranked else ""
        sheet.add_column(f"{_PRINTED[column.key]}{arrow}", justify="right", no_wrap=True)
    for place, lines in enumerate((table.methods, table.controls)):
        for line in lines:
            sheet.add_row(*_texts(line, places), style="dim" if place else "")
        sheet.add_section()
    console.print(sheet)
    console.print(Text(f"\npanels  {output / 'panels'}\nreport  {output / 'report.html'}"), soft_wrap=True)


def _texts(line: Line, places: Sequence[int]) -> list[Text]:
    cells = [line.cells[place] for place in places]
    return [Text(line.result.method), *(Text(cell.text, _STYLES[cell.mark]) for cell in cells)]
