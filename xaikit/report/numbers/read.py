"""Reads the rows of a benchmark's folder that may be pooled, without torch.

    DIR/rows/*.parquet    rows of all processes; a unit that occurs twice is read once
    DIR/manifest.json     title, command, environment, and the settings and pictures that belong to the report
    DIR/pictures.json     {"pictures": [{dataset, model, image, files by name}, ...]}, optional

    row -> its setting and picture are those of the manifest
        -> within a data set and model the conditions are equal, each method has one setting a seed,
           each image one content and label, and the times come from one device
        -> else it is left out, with the reason

Without a manifest the largest group of equal rows is the report. Files whose name starts with a dot are ignored.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from xaikit.benchmark.manifest import CONDITIONS, Manifest, changed
from xaikit.benchmark.rows import Row, read
from xaikit.foundation.errors import BadInput
from xaikit.foundation.toml import first_problem


@dataclass(frozen=True)
class Benchmark:
    """The contents of a benchmark's folder.

    Args:
        rows: one row per image and method, in the order of the suite.
        run: title, command, created, seed, environment and lines about rows that are left out, as the page takes them.
        directions: better direction by measure: "higher", "lower" or "none".
        pictures: existing files of overlays by (dataset, model), image_id and method.
    """

    rows: list[Row]
    run: dict[str, Any]
    directions: dict[str, str]
    pictures: dict[tuple[str, str], dict[str, dict[str, Path]]]


def read_benchmark(folder: str | Path) -> Benchmark:
    """Return the rows of a folder that belong to its report.

    Raises:
        BadInput: there are no rows, or a file is not what it should be.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder / "manifest.json")
    order = {setting: index for index, setting in enumerate(manifest.settings)}
    units: dict[str, Row] = {}
    left: dict[tuple[str, str, str], int] = {}
    files = [file for file in sorted((folder / "rows").glob("*.parquet")) if not file.name.startswith(".")]
    for row in (row for file in files for row in read(file)):
        if reason := _left_out(row, manifest):
            _count(left, row, reason)
        elif _better(row, units.get(row["unit_id"])):
            units[row["unit_id"]] = row
    if not units:
        expected = f"{folder}: expected rows/*.parquet of a benchmark, got none"
        reasons = f" that belong to its manifest ({'; '.join(_lines(left))})" if left else ""
        raise BadInput(f"{expected}{reasons}; run `xaikit benchmark` first")
    rows = sorted(_pooled(list(units.values()), left), key=lambda row: (order.get(row["setting"], 0), row["image_id"]))
    given = {"title", "command", "created", "seed", "environment"} & manifest.model_fields_set
    run = {"title": "Benchmark"} | manifest.model_dump(include=given)
    directions: dict[str, str] = {name: about.direction for name, about in manifest.measures.items()}
    return Benchmark(rows, run | ({"left_out": _lines(left)} if left else {}), directions, _pictures(folder))


def _left_out(row: Row, manifest: Manifest) -> str:
    """Return why a row does not belong to the report of a manifest, or ""."""
    if manifest.settings and row["setting"] not in manifest.settings:
        block = [
            about
            for about in manifest.settings.values()
            if all(about.get(name) == row.get(name) for name in ("dataset", "model"))
        ]
        if not block:
            return "the data set or the model is no longer in the report"
        measured = any(all(about.get(name) == row.get(name) for name in ("method", "seed")) for about in block)
        other = "the method's parameters, code, layer or library changed" if measured else "the method is not measured"
        return changed(row, block[0]) or other
    images = manifest.images.get(str(row.get("dataset")), {}).get(str(row.get("model")))
    if images is None or row["image_id"] not in images:
        return "" if images is None else "the data no longer have the picture"
    return "" if images[row["image_id"]] == row.get("picture") else "the picture or its label changed"


_EQUAL: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    *((("dataset", "model"), (name,), reason) for name, reason in CONDITIONS.items()),
    (("dataset", "model", "method", "seed"), ("setting",), "the method's parameters, code, layer or library changed"),
    (("dataset", "model", "image_id"), ("picture",), "the picture or its label changed"),
)
"""Columns that name a group, a column that must be equal in it, and the reason why other rows are left out."""


def _pooled(rows: list[Row], left: dict[tuple[str, str, str], int]) -> list[Row]:
    """Return the rows that may be pooled, of each group the largest part that is equal, and count the others."""
    for names, columns, reason in _EQUAL:
        largest = _largest(rows, names, columns)
        for row in rows:
            if _values(row, columns) != largest[_values(row, names)]:
                _count(left, row, reason)
        rows = [row for row in rows if _values(row, columns) == largest[_values(row, names)]]
    timed = [row for row in rows if row.get("ms") is not None]
    places = _largest(timed, ("dataset", "model"), ("hardware",))
    for row in timed:
        if _values(row, ("hardware",)) != places[_values(row, ("dataset", "model"))]:
            _count(left, row, f"only the time, measured on {row.get('hardware')}")
            row["ms"] = None
    return rows


def _largest(rows: list[Row], names: tuple[str, ...], columns: tuple[str, ...]) -> dict[tuple[Any, ...], Any]:
    """Return the most frequent values of columns in each group, of equally frequent ones the last."""
    counts: dict[tuple[Any, ...], dict[tuple[Any, ...], int]] = {}
    for row in rows:
        group = counts.setdefault(_values(row, names), {})
        group[_values(row, columns)] = group.pop(_values(row, columns), 0) + 1
    return {group: max(reversed(numbers), key=lambda value: numbers[value]) for group, numbers in counts.items()}


def _values(row: Row, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)


def _count(left: dict[tuple[str, str, str], int], row: Row, reason: str) -> None:
    key = str(row.get("dataset")), str(row.get("model")), reason
    left[key] = left.get(key, 0) + 1


def _lines(left: dict[tuple[str, str, str], int]) -> list[str]:
    """Return a line for each data set, model and reason."""
    return [
        f"{count:,} {'row' if count == 1 else 'rows'} of {model} on {dataset} left out: {reason}"
        for (dataset, model, reason), count in sorted(left.items())
    ]


def _pictures(folder: Path) -> dict[tuple[str, str], dict[str, dict[str, Path]]]:
    """Return the pictures that pictures.json names and that exist.

    Raises:
        BadInput: the file is of another form, or names files outside the folder, which may not be the user's own.
    """
    list_file = folder / "pictures.json"
    try:
        listed = _Pictures.model_validate(_json(list_file))
    except ValidationError as error:
        raise BadInput(f"{list_file}: expected the pictures of a report, got {first_problem(error, ())}") from error
    pictures: dict[tuple[str, str], dict[str, dict[str, Path]]] = {}
    for entry in listed.pictures:
        for file in entry.files.values():
            if not (folder / file).resolve().is_relative_to(folder.resolve()) or Path(file).suffix != ".png":
                raise BadInput(f"{list_file}: expected PNG files inside the folder, got {file}; remove the entry")
        files = {name: folder / file for name, file in entry.files.items() if (folder / file).is_file()}
        if files:
            pictures.setdefault((entry.dataset, entry.model), {})[entry.image] = files
    return pictures


class _Entry(BaseModel):
    """One image in pictures.json."""

    model_config = ConfigDict(strict=True)

    dataset: str
    model: str
    image: str
    files: dict[str, str]


class _Pictures(BaseModel):
    """The content of pictures.json."""

    pictures: list[_Entry] = []


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected JSON, got something else ({error}); remove it") from error
    return content if isinstance(content, dict) else {}


def _better(row: Row, known: Row | None) -> bool:
    return known is None or (known["status"] != "ok" and row["status"] == "ok")
