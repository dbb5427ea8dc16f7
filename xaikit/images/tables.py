"""Tables about pictures: a CSV file with a line for each fact, checked while it is read."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of


def read_table(path: Path, columns: Mapping[str, Callable[[str], Any]]) -> list[tuple[Any, ...]]:
    """Return the values of some columns of a CSV file, one tuple a line.

    Args:
        path: the file, with or without a byte order mark; its first line names the columns.
        columns: what a cell of each column becomes, by the column's name.

    Raises:
        BadInput: there is no file, it lacks a column, or a line has other cells.
    """
    names = list(columns)
    listed = f"the columns {', '.join(names[:-1])} and {names[-1]}"
    expected = f"a CSV with {listed}"
    if (kind := kind_of(path)) != "file":
        raise BadInput(f"{path}: expected {expected}, got {kind}; check the path")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lost = [name for name in names if name not in (reader.fieldnames or ())]
            lines = [] if lost else [_cells(row, columns, reader.line_num) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path}: expected {expected}, got {error!r}") from error
    if lost:
        raise BadInput(f"{path}: expected {listed}, got none of {lost[0]!r}; add it")
    return lines


def _cells(row: dict[str | Any, Any], columns: Mapping[str, Callable[[str], Any]], line: int) -> tuple[Any, ...]:
    if None in row or None in row.values():
        raise ValueError(f"line {line} with other cells")
    return tuple(read(row[name]) for name, read in columns.items())
