"""The messages of refusals, read from the code: each as it is raised, with its variable parts left open."""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path("xaikit")
_REFUSALS = ("BadInput", "UnknownName", "MissingExtra", "NoSuchLayer", "BadChecksum", "CannotWrite")


def refusals(room: str) -> list[str]:
    """Return the messages of the files of a room, each once, in alphabetical order."""
    found = {
        message
        for file in sorted((_PACKAGE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if isinstance(node.exc.func, ast.Name) and node.exc.func.id in _REFUSALS and node.exc.args
        if (message := _text(node.exc.args[0])).strip("… ")
    }
    return sorted(found, key=str.lower)


def listed(rooms: str) -> str:
    """Return the messages of rooms, given as "images zoo", as a list that folds."""
    lines = [f"<li><code>{html.escape(message)}</code></li>" for room in rooms.split() for message in refusals(room)]
    heading = f"<summary>All {len(lines)} messages</summary>"
    return "\n".join([f'<details markdown="0">{heading}<ul>', *lines, "</ul></details>"])


def _text(node: ast.expr) -> str:
    return "".join(_parts(node))


def _parts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _parts(value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _parts(node.left)
        yield from _parts(node.right)
    else:
        yield "…"
