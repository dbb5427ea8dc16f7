"""The store: rows on disk, in complete files at every moment.

    DIR/rows/<units>-<hash>.parquet    rows of some units, written under a temporary name and renamed
    DIR/maps/ab/<map>.safetensors      attributions, if the suite keeps them, named by everything they depend on
    DIR/manifest.json                  settings and pictures that belong to the report, measures, environment

A unit is done when an undamaged file holds a row of it with all values that are asked for. New values are written with
the earlier ones of their unit, in another file; `sweep` removes rows whose values another row has. A damaged file is
set aside as NAME.damaged, and what it held is computed again. Files whose name starts with a dot were left by a killed
process and are ignored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from xaikit.benchmark.manifest import Manifest
from xaikit.benchmark.rows import COLUMNS, MEASURE, Damaged, Row, Values, digest, parquet, table, values_of
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, output_directory, write_json
from xaikit.foundation.identity import fingerprint


class Found(NamedTuple):
    """A row of a unit.

    Args:
        file: the file that holds it.
        status: "ok" or "error".
        values: the values that it holds, or that were tried.
    """

    file: Path
    status: str
    values: Values

    def covers(self, other: Found) -> bool:
        """Return whether this row makes another one of its unit superfluous."""
        if self.status != "ok":
            return other.status != "ok" and self.values == other.values
        return self.values >= other.values


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

    def index(self) -> dict[str, tuple[Found, ...]]:
        """Return the rows of each unit, in the order of the files."""
        units: dict[str, tuple[Found, ...]] = {}
        for file in self.files():
            known: dict[tuple[str, str], tuple[Found]] = {}  # the same objects for all rows of a file
            for unit, status, protocol in self._read(file, ["unit_id", "status", "protocol"]):
                row = known.setdefault((status, protocol), (Found(file, status, values_of(protocol)),))
                units[unit] = units[unit] + row if unit in units else row
        return units

    def sweep(self) -> dict[str, tuple[Found, ...]]:
        """Remove files that killed processes left, and superfluous rows, and return the index of the others."""
        for file in (self.path / "rows").glob(".*"):
            file.unlink(missing_ok=True)
        superfluous: dict[Path, list[str]] = defaultdict(list)
        units = self.index()
        for unit, rows in units.items():
            kept: list[Found] = []
            for row in rows if len(rows) > 1 else ():
                if any(other.covers(row) for other in kept):
                    superfluous[row.file].append(unit)
                    continue
                for other in [other for other in kept if row.covers(other)]:
                    kept.remove(other)
                    superfluous[other.file].append(unit)
                kept.append(row)
        for file, names in superfluous.items():
            content = self._table(file)
            if content is not None:
                rest = content.filter(pc.invert(pc.is_in(content["unit_id"], pa.array(names))))
                if len(rest):
                    self._write(rest)
                file.unlink(missing_ok=True)
        return self.index() if superfluous else units

    def failures(self, settings: Container[str], pictures: Container[str], values: Values) -> list[list[str]]:
        """Return image, method and reason of the units that failed and have no row with all values.

        Args:
            settings: the settings that are looked at.
            pictures: the pictures that are looked at.
            values: the values of a whole row.
        """
        failed: dict[str, list[str]] = {}
        columns = ["setting", "picture", "unit_id", "image_id", "method", "error"]
        for file in self.files():
            for setting, picture, unit, *about in self._read(file, columns, "error"):
                if setting in settings and picture in pictures:
                    failed[unit] = about
        for file in self.files() if failed else ():
            for unit, protocol in self._read(file, ["unit_id", "protocol"], "ok"):
                if unit in failed and values <= values_of(protocol):
                    del failed[unit]
        return list(failed.values())

    def rows(self, files: Iterable[str], units: Collection[str]) -> dict[str, list[Row]]:
        """Return whole rows of some units that did not fail, by unit.

        Args:
            files: names of the files that hold them.
            units: the units.
        """
        found: dict[str, list[Row]] = defaultdict(list)
        for name in sorted(files):
            content = self._table(self.path / "rows" / name)
            if content is not None:
                wanted = pc.and_(pc.is_in(content["unit_id"], pa.array(list(units))), pc.equal(content["status"], "ok"))
                for row in content.filter(wanted).to_pylist():
                    found[row["unit_id"]].append(row)
        return found

    def write(self, rows: Sequence[Mapping[str, Any]], measures: Iterable[str]) -> None:
        """Write the rows of some units, completely or not at all.

        Args:
            rows: one for each unit.
            measures: names of measures that have a column in any case.

        Raises:
            BadInput: a row has a column that is not in the schema, or the file cannot be written.
        """
        names = dict.fromkeys(f"{MEASURE}{name}" for name in measures)
        names |= dict.fromkeys(name for row in rows for name in row if name.startswith(MEASURE))
        types = COLUMNS | dict.fromkeys(names, pa.float64())
        for row in rows:
            if unknown := row.keys() - types.keys():
                raise BadInput(f"rows: expected the columns of the schema, got {', '.join(sorted(unknown))}")
        records = [{name: row.get(name) for name in types} for row in rows]
        self._write(pa.Table.from_pylist(records, schema=pa.schema(list(types.items()))))

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

    def _write(self, rows: pa.Table) -> None:
        """Write rows in place of earlier ones of the same units and values."""
        content, about = parquet(rows), rows.select(["unit_id", "status", "protocol"])
        name = fingerprint(about.to_pydict())
        file = self.path / "rows" / f"{name}-{digest(content)}.parquet"
        with atomic(file) as temporary:
            temporary.write_bytes(content)
        for earlier in file.parent.glob(f"{name}-*.parquet"):
            if earlier != file:
                earlier.unlink(missing_ok=True)

    def _read(self, file: Path, columns: list[str], status: str | None = None) -> list[tuple[Any, ...]]:
        """Return columns of the rows of a file, of those with a status or of all."""
        content = self._table(file, [*columns, "status"])
        if content is None:
            return []
        if status is not None:
            content = content.filter(pc.equal(content["status"], status))
        known = content.column_names
        values = [content[name].to_pylist() if name in known else [None] * len(content) for name in columns]
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
