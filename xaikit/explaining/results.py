"""The results folder of an explain run: pictures, raw values and records, in complete files at every moment.

    panels/NAME.png            the input and every method's overlay
    overlays/NAME.METHOD.png   one overlay
    attributions.npz           raw values under the key NAME/METHOD
    results.json               {"run": {...}, "records": [...], "checksum": of both}, one record a line
    running/                   while a run lasts: who writes
    unfinished/                while a run lasts: run.json, and the values and records of each image in one file
    earlier/1/, earlier/2/     the results of earlier runs that were asked something else

A run that is killed loses the image at hand, nothing else: the files in `unfinished` are joined to attributions.npz and
results.json when the run ends, or when the next one starts. A run that is asked the same of the same pictures continues
the one before; any other moves what it finds to `earlier` before it writes. Only what is undamaged is continued: values
and records have checksums, and each record those of its pictures.

Of more than 10,000 images, NAME begins with a folder for each thousand: panels/0012/NAME.png. A run without pictures
writes values and records alone.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from pydantic import TypeAdapter

from xaikit.explaining.records import Record, Records, read_results, write_results
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, json_line, output_directory, write_json
from xaikit.foundation.lock import held
from xaikit.images.folders import sha256
from xaikit.images.reading import save_png

Array = np.ndarray[Any, Any]
_RESULTS = ("unfinished", "overlays", "panels", "attributions.npz", "results.json")  # the last one moves last
_RECORDS = "records.json"
_PICTURES = ("panel", "overlay")
_UNREADABLE = (OSError, BadZipFile, EOFError, RuntimeError, ValueError, LookupError, struct.error, zlib.error)
"""What reading a damaged archive raises."""


class ResultsFolder:
    """The folder of one run, made by `open`.

    Attributes:
        path: path of the folder.
        kept: records of an earlier run of the same request by the name of their image; their values are there.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], notice: Callable[[str], None]) -> None:
        self.path = path
        self._run = dict(run)
        self._notice = notice
        self._unfinished = path / "unfinished"
        self._begun = False
        self._parts: list[str] = []  # paths, which are smaller so
        self._sweep()
        self._complete()
        self.kept = self._same_request()

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, run: Mapping[str, Any], notice: Callable[[str], None] = lambda line: None
    ) -> Iterator[ResultsFolder]:
        """Yield the folder for one run, and complete what a killed run left; nothing is moved before the first write.

        Args:
            path: path of the folder; it is made if it does not exist.
            run: facts of the run; "request" identifies what it is asked, "date" when.
            notice: called with one line if results are moved.

        Raises:
            BadInput: the folder cannot be written, or another run writes it.
        """
        folder = output_directory(path)
        with held(folder, "explain"):
            yield cls(folder, run, notice)

    def write(
        self,
        place: int,
        name: str,
        drawn: tuple[Array, Mapping[str, Array]] | None,
        values: Mapping[str, Array],
        records: Sequence[Record],
    ) -> list[Record]:
        """Write the results of one image; return its records with panel, overlay and key of the values.

        Args:
            place: position of the image in the run.
            name: name of the image's files.
            drawn: panel (H, W, 3) uint8, and one such overlay for each method; None writes no pictures.
            values: raw values of each method.
            records: one record for each method, with its name under "method".
        """
        self._begin()
        complete = [record | {"outputs": {"values": f"{name}/{record['method']}"}} for record in records]
        if drawn is not None:
            self._draw(name, *drawn, complete)
        part = self._unfinished / f"{place // 1000:04}" / f"{place:08}.npz"
        part.parent.mkdir(exist_ok=True)
        with atomic(part) as temporary, ZipFile(temporary, "w") as archive:
            for record in complete:
                archive.writestr(_entry(record), _bytes(values[record["method"]]))
            archive.writestr(ZipInfo(_RECORDS), json_line(complete))
        self._parts.append(str(part))
        return complete

    def _draw(self, name: str, panel: Array, overlays: Mapping[str, Array], records: Sequence[Record]) -> None:
        """Write the pictures of one image, and add their paths and checksums to its records."""
        for kind in ("panels", "overlays"):
            if not (folder := (self.path / kind / name).parent).is_dir():
                output_directory(folder)
        outputs = {"panel": f"panels/{name}.png"}
        save_png(self.path / outputs["panel"], panel)
        for record in records:
            method = record["method"]
            outputs["overlay"] = f"overlays/{name}.{method.replace('/', '-')}.png"
            save_png(self.path / outputs["overlay"], overlays[method])
            record["outputs"] |= outputs
            record["outputs"]["sha256"] = {kind: sha256(self.path / outputs[kind]) for kind in _PICTURES}

    def known(self, name: str) -> Records:
        """Return the records of an image that an earlier run explained and whose pictures are whole, or none."""
        records = self.kept.get(name, Records())
        return records if all(self._is_whole(record["outputs"]) for record in records) else Records()

    def conclude(self, run: Mapping[str, Any], records: Records) -> None:
        """Write `attributions.npz` and `results.json` and remove the files of the unfinished run."""
        self._begin()
        self._join(run, records)

    def _is_whole(self, outputs: Record) -> bool:
        """Return whether the pictures of a record are those that were written."""
        try:
            return all(sha256(self.path / outputs[kind]) == of for kind, of in outputs.get("sha256", {}).items())
        except BadInput:
            return False

    def _sweep(self) -> None:
        """Remove files that a killed run left half written."""
        for pattern in (".*.tmp*", "panels/**/.*.tmp*", "overlays/**/.*.tmp*"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Move the results of another request to `earlier`, and make the folders of this one."""
        if self._begun:
            return
        self._begun = True
        if not self.kept:
            self._move_away(_RESULTS)
        output_directory(self._unfinished)
        write_json(self._unfinished / "run.json", self._run)

    def _move_away(self, names: Sequence[str]) -> None:
        """Move results to the next folder of `earlier`; one that lacks results.json was left by a kill."""
        found = [path for name in names if _is_used(path := self.path / name)]
        if not found:
            return
        number = 1
        taken = {*(path.name for path in found), "results.json"}
        while any((self.path / "earlier" / str(number) / name).exists() for name in taken):
            number += 1
        place = output_directory(self.path / "earlier" / str(number))
        for path in found:
            try:
                path.rename(place / path.name)
            except OSError as error:
                raise BadInput(
                    f"{path}: cannot be moved to {place} ({error.strerror}); choose another output with -o"
                ) from error
        self._notice(f"the results of an earlier run, which was asked something else or is damaged, are now in {place}")

    def _complete(self) -> None:
        """Join the files of a run that was killed."""
        run = _json(self._unfinished / "run.json")
        if not isinstance(run, dict):
            return
        found = read_results(self.path / "results.json")
        if found is not None and all(found[0].get(key) == run.get(key) for key in ("request", "date")):
            self._remove_unfinished()  # it was joined
            return
        parts = {part: records for part in sorted(self._unfinished.rglob("*.npz")) if (records := _records(part))}
        self._parts = list(map(str, parts))
        new = Records.of_lines(line for records in parts.values() for line in records.lines)
        if found is not None and not self._has_values(found[1]):
            self._move_away(_RESULTS[1:])
            found = None
        entries = set(map(_entry, new))
        records = Records(record for record in found[1] if _entry(record) not in entries) if found else Records()
        records += new
        images = {_name(record) for record in records if _entry(record)}
        self._join(run | {"images": len(images), "interrupted": True}, records)

    def _join(self, run: Mapping[str, Any], records: Records) -> None:
        """Write the values of the records, from the files that have them, and the records."""
        places = {_entry(record): part for part in self._parts for record in _records(Path(part))}
        earlier = self.path / "attributions.npz"
        with atomic(earlier) as temporary, ZipFile(temporary, "w") as archive:
            source: ZipFile | None = None
            for entry in filter(None, map(_entry, records)):
                place = places.get(entry, str(earlier))
                if source is None or source.filename != place:
                    if source is not None:
                        source.close()
                    source = ZipFile(place)
                archive.writestr(ZipInfo(entry), source.read(entry))
            if source is not None:
                source.close()
        write_results(self.path / "results.json", run, records)
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Remove the files of an unfinished run; run.json goes first, so that what a kill leaves is no run."""
        (self._unfinished / "run.json").unlink(missing_ok=True)
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._parts = []

    def _has_values(self, records: Records) -> bool:
        """Return whether the values of all records can be read."""
        try:
            with ZipFile(self.path / "attributions.npz") as archive:
                known = set(archive.namelist()) if archive.testzip() is None else set()
        except _UNREADABLE:
            return False
        return known >= {entry for record in records if (entry := _entry(record))}

    def _same_request(self) -> dict[str, Records]:
        """Return the records of the same request by name, if the values of all of them can be read."""
        found = read_results(self.path / "results.json")
        if found is None or found[0].get("request") != self._run["request"] or not self._has_values(found[1]):
            return {}
        named: dict[str, Records] = {}
        for line, record in zip(found[1].lines, found[1], strict=True):
            if _entry(record):
                named.setdefault(_name(record), Records()).lines.append(line)
        return named


def _name(record: Record) -> str:
    """Return the name of the image of a record with values."""
    values: str = record["outputs"]["values"]
    return values.removesuffix(f"/{record['method']}")


def _entry(record: Record) -> str:
    """Return the name of a record's values in an archive; "" for a record without values."""
    return f"{record['outputs']['values']}.npy" if "outputs" in record else ""


def _bytes(values: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def _records(part: Path) -> Records:
    """Return the records of one image, or none if its file is damaged."""
    try:
        with ZipFile(part) as archive:
            records = TypeAdapter(list[Record]).validate_json(archive.read(_RECORDS))
            return Records(records if archive.testzip() is None else ())
    except _UNREADABLE:  # a ValidationError is a ValueError
        return Records()


def _json(path: Path) -> Any:
    """Return the content of a JSON file, or None if it cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _is_used(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
