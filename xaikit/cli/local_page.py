"""`xaikit app`: serves a local page to look, ask and compare; or writes it as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xaikit.cli.lines import aside, tell
from xaikit.cli.options import Device

NAME = "app"


def command(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="As in explain, or a folder of trained ones; may repeat, to compare."),
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="A file or a name, for each model in turn; may repeat.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Pictures, or folders of them; may repeat. Default: drawn ones.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Methods that are shown first; may repeat.")
    ] = None,
    device: Device = "auto",
    host: Annotated[
        str, typer.Option("--host", help="Address to bind; any but 127.0.0.1 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; the next ones if it is in use.")] = 8000,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="PAGE.html", help="Write the page to a file that needs no server."),
    ] = None,
) -> None:
    """Look at explanations in a browser: methods beside controls, a threshold, contrasts, two models."""
    from xaikit.app.models import given, known_offline
    from xaikit.app.start import METHODS_FIRST, run

    with aside():
        offers = [*given(model or [], weights or [], device), *known_offline(device, photographs=bool(data))]
        run(
            offers,
            data,
            methods=method or METHODS_FIRST,
            host=host,
            port=port,
            browser=browser,
            export=export,
            notice=tell,
        )
