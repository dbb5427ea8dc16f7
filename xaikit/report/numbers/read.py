"""Reads the rows of a benchmark's folder that may be pooled, without torch.

    DIR/rows/*.parquet    rows of all processes; a unit that occurs twice is read once
    DIR/manifest.json     title, command, environment, and the settings and pictures that belong to the report
    DIR/pictures.json     {"pictures": [{dataset, model, image, files by name}, ...]}, optional

Rows are read as arrays and become numbers, in memory for a few hundred bytes a row. Whole rows, of the images that are
shown, are read again. pool.py says which rows are left out. Files whose name starts with a dot are ignored.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from xaikit.benchmark.manifest import Manifest, MeasureAbout
from xaikit.benchmark.rows import CURVE_COLUMNS, MEASURE, Row, checked
from xaikit.foundation.errors import BadInput
from xaikit.foundation.toml import first_problem
from xaikit.report.numbers.aggregate import Summary, summary
from xaikit.report.numbers.gather import READ, Array, Gathered, Name
from xaikit.report.numbers.pool import pool


@dataclass(frozen=True)
class Benchmark:
    """The contents of a benchmark's folder.

    Args:
        summaries: the numbers of each data set and model.
        run: title, command, created, seed, environment and lines about rows that are left out, as the page takes them.
        measures: the measures of the suite by their name in rows, in its order.
        source: where the rows came from.
    """

    summaries: dict[Name, Summary]
    run: dict[str, Any]
    measures: dict[str, MeasureAbout]
    source: "_Source"

    def __len__(self) -> int:
        return int((self.source.ranks >= 0).sum())

    @property
    def rows(self) -> list[Row]:
        """All rows of the report, in the order of the suite; they are read again."""
        return self.source.rows(self.source.ranks >= 0)

    def rows_of(self, name: Name, images: Collection[str]) -> list[Row]:
        """Return the rows of some images of one data set and model, in the order of the suite; they are read again.

        Raises:
            BadInput: a file was replaced meanwhile.
        """
        return self.source.rows(self.source.of(name, images))


@dataclass(frozen=True)
class _Source:
    """The files of the rows.

    Args:
        files: the files, in order.
        starts: number of rows before each file.
        columns: names of the columns that belong to the report.
        gathered: the rows.
        ranks: (R,) place of each row, -1 for one that is left out.
        untimed: (R,) whether the time of a row is unknown after all.
    """

    files: list[Path]
    starts: list[int]
    columns: Sequence[str]
    gathered: Gathered
    ranks: Array
    untimed: Array

    def of(self, name: Name, images: Collection[str]) -> Array:
        """Return whether each row is one of some images of a data set and model, (R,)."""
        kinds = [(str(about["dataset"]), str(about["model"])) == name for about in self.gathered.kinds]
        wanted = [image in images for image in self.gathered.images]
        chosen: Array = np.array(kinds)[self.gathered.array("kind")] & np.array(wanted)[self.gathered.array("image")]
        return chosen & (self.ranks >= 0)

    def rows(self, chosen: Array) -> list[Row]:
        """Return whole rows, in order."""
        places = np.flatnonzero(chosen)
        found: list[tuple[int, Row]] = []
        unread: Row = dict.fromkeys(name for name in CURVE_COLUMNS if name not in self.columns)
        files = np.searchsorted(self.starts, places, side="right") - 1
        for file in np.unique(files).tolist():
            rows = checked(self.files[file], self.columns).to_pylist()
            for place in places[files == file].tolist():
                row = unread | rows[place - self.starts[file]]
                found.append((int(self.ranks[place]), row | ({"ms": None} if self.untimed[place] else {})))
        return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def read_benchmark(folder: str | Path) -> Benchmark:
    """Return the rows of a folder that belong to its report.

    Raises:
        BadInput: there are no rows, or a file is not what it should be.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder / "manifest.json")
    files = [file for file in sorted((folder / "rows").glob("*.parquet")) if not file.name.startswith(".")]
    gathered, starts, columns = Gathered(), [], manifest.columns()
    read_columns = [name for name in columns if name in READ or name.startswith(MEASURE)]
    for file in files:
        starts.append(len(gathered))
        gathered.add(checked(file, read_columns))
    pooled = pool(gathered, manifest)
    if not (pooled.ranks >= 0).any():
        expected = f"{folder}: expected rows/*.parquet of a benchmark, got none"
        reasons = f" that belong to its manifest ({'; '.join(pooled.left_out)})" if pooled.left_out else ""
        raise BadInput(f"{expected}{reasons}; run `xaikit benchmark` first")
    scores = gathered.scores(pooled.ranks, pooled.untimed)
    given = {"title", "command", "created", "seed", "environment", "methods"} & manifest.model_fields_set
    run = {"title": "Benchmark"} | manifest.model_dump(include=given)
    return Benchmark(
        {name: summary(own) for name, own in scores.items()},
        run | ({"left_out": pooled.left_out} if pooled.left_out else {}),
        manifest.measures,
        _Source(files, starts, columns, gathered, pooled.ranks, pooled.untimed),
    )


def listed_pictures(folder: Path) -> dict[Name, dict[str, dict[str, Path]]]:
    """Return the pictures that pictures.json names and that exist, by (dataset, model), image and method.

    Raises:
        BadInput: the file is of another form, or names files outside the folder, which may not be the user's own.
    """
    list_file = folder / "pictures.json"
    try:
        listed = _Pictures.model_validate(_json(list_file))
    except ValidationError as error:
        raise BadInput(f"{list_file}: expected the pictures of a report, got {first_problem(error, ())}") from error
    pictures: dict[Name, dict[str, dict[str, Path]]] = {}
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
