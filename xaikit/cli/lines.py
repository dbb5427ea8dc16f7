"""Lines of text on the terminal. No command prints in another way, so that no name of a file can act on a terminal.

say         a line on standard output
tell        a line on standard error, after "xaikit: "
say_json    JSON on standard output
flag_lines  what the flags of records mean, one line a flag
aside       a block whose own output goes to standard error
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from typing import Any, TextIO

import typer

from xaikit.foundation.flags import described
from xaikit.foundation.texts import visible, visible_json


def say(text: str = "") -> None:
    """Print one line."""
    typer.echo(visible(text))


def tell(text: str) -> None:
    """Print one line on standard error, with the program's name."""
    typer.echo(f"xaikit: {visible(' '.join(text.split()))}", err=True)


def say_json(text: str) -> None:
    """Print JSON; characters that a terminal obeys are written as JSON escapes."""
    typer.echo(visible_json(text.rstrip("\n")))


def flag_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line for each flag of the records: the methods that have it, how often, and what it means."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for flag in record.get("flags", ()):
            counts.setdefault(flag, Counter())[record["method"]] += 1
    return [
        f"{', '.join(f'{method} ({count})' for method, count in by.items())}: {described(flag)}"
        for flag, by in sorted(counts.items())
    ]


def aside() -> AbstractContextManager[TextIO]:
    """Send what plug-ins and networks print to standard error, so that standard output holds the results alone."""
    return redirect_stdout(sys.stderr)
