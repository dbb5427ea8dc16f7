"""Terminal output: tables on standard output; progress bars on standard error if it is a terminal."""

import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from xaikit.cli.lines import say
from xaikit.foundation.errors import LeftOut
from xaikit.foundation.texts import visible

_PIPE_WIDTH = 200  # columns when standard output is not a terminal


class ProgressCallback:
    """Shows the progress of a long computation, one bar per unit; a bar disappears when it is done.

    If the first call adds an estimate to the unit, as in "forwards, about 40 s", the bar keeps showing it.

    Args:
        progress: the rich display that holds the bars.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._estimates: dict[str, str] = {}

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Show that `done` of `total` units are done."""
        word, comma, _ = unit.partition(", ")
        if comma:
            self._estimates[word] = unit
        self._show(word, done, total, f"{done:,} of {total:,} {self._estimates.get(word, word)}")
        if done >= total:
            self._estimates.pop(word, None)

    def message(self, done: int, total: int, unit: str) -> None:
        """Show progress in one bar whose text may change from call to call."""
        self._show("", done, total, unit)

    def _show(self, bar: str, done: int, total: int, text: str) -> None:
        if bar not in self._tasks:
            self._tasks[bar] = self._progress.add_task(visible(text), total=total)
        self._progress.update(self._tasks[bar], completed=done, total=total, description=visible(text))
        if done >= total:
            self._progress.remove_task(self._tasks.pop(bar))


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Yield a progress callback; it shows nothing unless standard error is a terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressCallback(progress)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table.

    Args:
        columns: headings of the columns.
        rows: rows of one text per column.
        right: headings of right-aligned columns.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print(table)


def print_groups(groups: Mapping[str, Mapping[str, str]]) -> None:
    """Print names with a sentence each, under the titles of their groups; a pipe gets each on one line.

    Args:
        groups: by title, the sentences by name.
    """
    console = Console()
    width = console.width if console.is_terminal else sys.maxsize
    column = max((len(name) for entries in groups.values() for name in entries), default=0) + 4
    for title, entries in groups.items():
        say(title)
        for name, sentence in entries.items():
            entry = f"  {name:<{column - 2}}{sentence}"
            for line in textwrap.wrap(entry, width, subsequent_indent=" " * column, break_on_hyphens=False):
                say(line)
        say()


@contextmanager
def left_out() -> Iterator[list[str]]:
    """Yield a list that collects the warnings about skipped images; they are still shown."""
    messages: list[str] = []
    showwarning = warnings.showwarning

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if isinstance(message, LeftOut):
            messages.append(str(message))
        showwarning(message, *args, **kwargs)

    warnings.showwarning = show
    try:
        yield messages
    finally:
        warnings.showwarning = showwarning
