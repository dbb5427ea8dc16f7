"""`xaikit demo`: explain, measure and report in one command, without internet access.

suite -> images drawn to DIR/images -> explain (panels, overlays, results.json) -> benchmark (rows) -> report.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Sheet
from rich.text import Text

from xaikit.cli.lines import say
from xaikit.cli.terminal import progress_bar
from xaikit.foundation.texts import visible

if TYPE_CHECKING:
    from xaikit.benchmark.suite import Suite
    from xaikit.report.numbers.tables import Line, Table

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
    """Explain synthetic images by several methods, measure the explanations and write a report."""
    from xaikit.benchmark.environment import steady
    from xaikit.benchmark.run import run
    from xaikit.benchmark.store import Store
    from xaikit.benchmark.suite import Suite
    from xaikit.benchmark.worker import Worker
    from xaikit.explaining.run import explain
    from xaikit.foundation.files import output_directory, package_data
    from xaikit.foundation.texts import shown_command
    from xaikit.report.numbers.read import read_benchmark
    from xaikit.run.context import Context
    from xaikit.runs.page import write_all
    from xaikit.runs.pictures import write_pictures

    suite = Suite.read(package_data("suites/demo.toml"))
    command_line = shown_command(["xaikit", "demo", "-o", output.as_posix()])
    output = output_directory(output)
    worker = Worker(suite, Store.open(output), "auto", suite.threads or 1)
    with progress_bar() as progress:
        model = worker.model(0)
        names = [picture.name for picture in model.pictures]
        with steady(worker.threads):
            _write_images(suite, names, output)
            methods = [worker.bound(setting) for setting in model.settings if setting.entry is not None]
            context = Context(seed=suite.seeds[0], progress=progress)
            files = [(output / "images" / f"{name}.png", None) for name in names]
            result = explain(files, methods, output, _draw, context=context, command=command_line)
        if result.interrupted:
            raise typer.Abort
        run(suite, output, progress=progress, command=command_line)
    benchmark = read_benchmark(output)
    write_pictures(suite, output, benchmark, "auto")
    (block,) = write_all(output, benchmark, lambda line: None)
    _print(block.table, f"{suite.models[0].name}, {len(names)} images of {suite.data.title}", output)


def _write_images(suite: Suite, names: Sequence[str], output: Path) -> None:
    from xaikit.foundation.files import output_directory
    from xaikit.images.reading import save_png
    from xaikit.images.synthetic import draw

    folder = output_directory(output / "images")
    pixels = draw(suite.data.count, suite.data.seed).pixels
    for name, picture in zip(names, (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy(), strict=True):
        save_png(folder / f"{name}.png", picture)


def _draw(
    picture: Any, maps: Sequence[tuple[Any, ...]], caption: str, title: str, notes: Sequence[str], frame: Any
) -> tuple[Any, Mapping[str, Any]]:
    from xaikit.images.drawing import Map, illustrate

    return illustrate(picture, [Map(*values) for values in maps], caption, title, notes, frame)


def _print(table: Table, title: str, output: Path) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_NARROWEST)
    sheet = Sheet(
        title=Text(visible(title)),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    indices = [index for index, column in enumerate(table.columns) if column.key in _PRINTED]
    sheet.add_column("method", no_wrap=True)
    for column in (table.columns[index] for index in indices):
        arrow = f" {column.arrow}" if column.ranked else ""
        sheet.add_column(f"{_PRINTED[column.key]}{arrow}", justify="right", no_wrap=True)
    for lines in table.blocks.values():
        for line in lines:
            sheet.add_row(*_texts(line, indices), style="dim" if line.result.is_control else "")
        sheet.add_section()
    console.print(sheet)
    say()
    say(f"panels  {output / 'panels'}")
    say(f"report  {output / 'report.html'}")


def _texts(line: Line, indices: Sequence[int]) -> list[Text]:
    cells = [line.cells[index] for index in indices]
    return [Text(visible(line.result.method)), *(Text(cell.text, _STYLES[cell.mark]) for cell in cells)]
