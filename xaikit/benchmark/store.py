"""The store: rows on disk, whole at every moment.

    DIR/rows/<chunk>.parquet     one file a chunk, written beside itself and renamed; the only Parquet files
    DIR/maps/ab/<map>.safetensors  attributions on request, named by what they depend on
    DIR/manifest.json            what was asked for: the settings that belong to the report, measures, environment

A unit is done when a file with a readable footer holds its row. Names that start with a dot are no rows: they are
what a killed process left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xaikit.benchmark import rows as rows_file
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, output_directory, write_json


@dataclass(frozen=True)
class Store:
    """One folder of results.

    Args:
        path: the folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Return the store of a folder, made where it is missing.

        Raises:
            BadInput: the folder cannot be written.
        """
        path = output_directory(path)
        output_directory(path / "rows")
        return cls(path)

    def files(self) -> list[Path]:
        """Return the files of rows, sorted."""
        return sorted(file for file in (self.path / "rows").glob("*.parquet") if not file.name.startswith("."))

    def states(self) -> dict[str, str]:
        """Return "ok" or "error" by unit_id of all rows that can be read; "ok" where there are both."""
        found: dict[str, str] = {}
        for file in self.files():
            for unit, status in self._read(file, ["unit_id", "status"]):
                found[unit] = "ok" if "ok" in (status, found.get(unit)) else status
        return found

    def failures(self) -> list[tuple[str, str, str, str]]:
        """Return unit_id, image, method and reason of the rows that failed."""
        columns = ["unit_id", "image_id", "method", "error", "status"]
        return [tuple(row[:4]) for file in self.files() for row in self._read(file, columns) if row[4] == "error"]

    def write(self, chunk: str, rows: Sequence[Mapping[str, Any]], measures: Iterable[str]) -> None:
        """Write the rows of a chunk, whole or not at all."""
        rows_file.write(self.path / "rows" / f"{chunk}.parquet", rows, measures)

    def sweep(self) -> None:
        """Remove what killed processes left, and rows of units that have a better one in another file."""
        for file in (self.path / "rows").glob(".*"):
            file.unlink(missing_ok=True)
        best: dict[str, tuple[bool, Path]] = {}
        units: dict[Path, list[str]] = {}
        for file in self.files():
            found = self._read(file, ["unit_id", "status"])
            units[file] = [unit for unit, _ in found]
            for unit, status in found:
                if unit not in best or (status == "ok" and not best[unit][0]):
                    best[unit] = status == "ok", file
        for file, own in units.items():
            mine = [best[unit][1] == file for unit in own]
            if not any(mine):
                file.unlink()
            elif not all(mine):
                table = _table(file)
                assert table is not None
                with atomic(file) as temporary:
                    pq.write_table(table.filter(pa.array(mine)), temporary)

    def manifest(self) -> dict[str, Any]:
        """Return what earlier runs wrote about themselves, or nothing."""
        try:
            found = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def describe(self, manifest: Mapping[str, Any]) -> None:
        """Write what this run says about itself."""
        write_json(self.path / "manifest.json", manifest)

    def map_file(self, map_id: str) -> Path:
        """Return where an attribution is kept."""
        return self.path / "maps" / map_id[:2] / f"{map_id}.safetensors"

    def _read(self, file: Path, columns: list[str]) -> list[tuple[Any, ...]]:
        table = _table(file, columns)
        return [] if table is None else list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def _table(file: Path, columns: list[str] | None = None) -> pa.Table | None:
    """Return a file's table, or None where it is cut short."""
    try:
        with pq.ParquetFile(file) as opened:
            return opened.read(columns=columns)
    except (pa.ArrowInvalid, FileNotFoundError):
        return None
    except (OSError, KeyError) as error:
        raise BadInput(f"{file}: expected rows, got something else ({error}); remove it") from error
