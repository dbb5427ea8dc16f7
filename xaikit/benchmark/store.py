"""The store: rows on disk, in complete files at every moment.

    DIR/rows/<chunk>-<hash>.parquet    one file per chunk, written under a temporary name and renamed
    DIR/maps/ab/<map>.safetensors  attributions, if the suite keeps them, named by everything they depend on
    DIR/manifest.json              settings and pictures that belong to the report, measures, environment

A unit is done when an undamaged file holds its row. A damaged file is set aside as NAME.damaged, and what it held is
computed again. Files whose name starts with a dot were left by a killed process and are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from xaikit.benchmark.manifest import Manifest
from xaikit.benchmark.rows import COLUMNS, MEASURE, Damaged, digest, parquet, table
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, output_directory, write_json


@dataclass(frozen=True)
class Store:
    """One folder of results.

    Args:
        path: path of the folder.
        notice: called with one line for each damaged file.
    """

    path: Path
    notice: Callable[[str], None] = field(default=lambda line: None, compare=False)

    @classmethod
    def open(cls, path: str | Path, notice: Callable[[str], None] = lambda line: None) -> Store:
        """Return the store of a folder, which is created if it does not exist.

        Raises:
            BadInput: the folder cannot be written.
        """
        path = output_directory(path)
        output_directory(path / "rows")
        return cls(path, notice)

    def files(self) -> list[Path]:
        """Return the sorted files of rows."""
        return sorted(file for file in (self.path / "rows").glob("*.parquet") if not file.name.startswith("."))

    def states(self) -> dict[str, str]:
        """Return the status of each unit by unit_id: "ok" if any readable row of it is "ok", else "error"."""
        states: dict[str, str] = {}
        for file in self.files():
            for unit, status in self._read(file, ["unit_id", "status"]):
                states[unit] = "ok" if "ok" in (status, states.get(unit)) else status
        return states

    def failures(self) -> list[tuple[str, str, str, str]]:
        """Return unit_id, image, method and reason of the rows that failed."""
        columns = ["unit_id", "image_id", "method", "error", "status"]
        return [tuple(row[:4]) for file in self.files() for row in self._read(file, columns) if row[4] == "error"]

    def write(self, chunk: str, rows: Sequence[Mapping[str, Any]], measures: Iterable[str]) -> None:
        """Write the rows of a chunk, completely or not at all.

        Args:
            chunk: name of the file.
            rows: one per image and method.
            measures: names of all measures.

        Raises:
            BadInput: a row has a column that is not in the schema, or the file cannot be written.
        """
        types = COLUMNS | {f"{MEASURE}{name}": pa.float64() for name in measures}
        for row in rows:
            if unknown := row.keys() - types.keys():
                raise BadInput(f"rows: expected the columns of the schema, got {', '.join(sorted(unknown))}")
        records = [{name: row.get(name) for name in types} for row in rows]
        self._write(chunk, pa.Table.from_pylist(records, schema=pa.schema(list(types.items()))))

    def sweep(self) -> None:
        """Remove files that killed processes left, and rows whose unit has a better row in another file."""
        for file in (self.path / "rows").glob(".*"):
            file.unlink(missing_ok=True)
        best: dict[str, tuple[bool, Path]] = {}
        units: dict[Path, list[str]] = {}
        for file in self.files():
            rows = self._read(file, ["unit_id", "status"])
            if rows:
                units[file] = [unit for unit, _ in rows]
            for unit, status in rows:
                if unit not in best or (status == "ok" and not best[unit][0]):
                    best[unit] = status == "ok", file
        for file, units_of_file in units.items():
            keep = [best[unit][1] == file for unit in units_of_file]
            if not any(keep):
                file.unlink(missing_ok=True)
            elif not all(keep):
                content = self._table(file)
                if content is not None:
                    self._write(file.stem.rpartition("-")[0] or file.stem, content.filter(pa.array(keep)))
                    file.unlink(missing_ok=True)

    def manifest(self) -> Manifest:
        """Return the manifest of earlier runs, empty if there is none; a damaged one is set aside."""
        try:
            return Manifest.read(self.path / "manifest.json")
        except BadInput as error:
            self.set_aside(self.path / "manifest.json", "only this suite is in the report", error)
            return Manifest()

    def describe(self, manifest: Manifest) -> None:
        """Write the manifest."""
        write_json(self.path / "manifest.json", manifest.values())

    def map_file(self, map_id: str) -> Path:
        """Return the file of an attribution."""
        return self.path / "maps" / map_id[:2] / f"{map_id}.safetensors"

    def set_aside(self, file: Path, consequence: str, error: BadInput) -> None:
        """Rename a damaged file, so that it is written again, and say so."""
        aside = file.with_name(f"{file.name}.damaged")
        try:
            file.replace(aside)
        except FileNotFoundError:
            return
        except OSError:
            raise error from None
        self.notice(f"{file.name}: damaged; it is set aside as {aside.name}, and {consequence}")

    def _write(self, chunk: str, rows: pa.Table) -> None:
        """Write the file of a chunk in place of an earlier one of the same chunk."""
        content = parquet(rows)
        file = self.path / "rows" / f"{chunk}-{digest(content)}.parquet"
        with atomic(file) as temporary:
            temporary.write_bytes(content)
        for earlier in file.parent.glob(f"{chunk}-*.parquet"):
            if earlier != file:
                earlier.unlink(missing_ok=True)

    def _read(self, file: Path, columns: list[str]) -> list[tuple[Any, ...]]:
        content = self._table(file, columns)
        values = [] if content is None else [content.column(name).to_pylist() for name in columns]
        return list(zip(*values, strict=True))

    def _table(self, file: Path, columns: list[str] | None = None) -> pa.Table | None:
        """Return the table of a file; None if it is damaged and set aside, or if another process replaced it."""
        try:
            return table(file, columns)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self.set_aside(file, "its units are computed again", error)
            return None
