"""The results folder of an explain run: pictures, raw values and records, in complete files at every moment.

    panels/NAME.png            the input and every method's overlay
    overlays/NAME.METHOD.png   one overlay
    attributions.npz           raw values under the key NAME/METHOD
    results.json               {"run": {...}, "records": [...], "checksum": of both}
    running/                   while a run lasts: who writes
    unfinished/                while a run lasts: run.json, and the values and records of each image in one file
    earlier/1/, earlier/2/     the results of earlier runs that were asked something else

A run that is killed loses the image at hand, nothing else: the files in `unfinished` are joined to attributions.npz and
results.json when the run ends, or when the next one starts. A run that is asked the same of the same pictures continues
the one before; any other moves what it finds to `earlier` before it writes. Only what is undamaged is continued: values
and records have checksums, and each record those of its pictures.
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
from pydantic import BaseModel, TypeAdapter, ValidationError

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import atomic, json_text, output_directory, write_json
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.lock import held
from xaikit.images.folders import sha256
from xaikit.images.reading import save_png

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

_RESULTS = ("unfinished", "overlays", "panels", "attributions.npz", "results.json")  # the last one moves last
_RECORDS = "records.json"
_OUTPUTS = ("panel", "overlay", "values")
_PICTURES = ("panel", "overlay")
_UNREADABLE = (OSError, BadZipFile, EOFError, RuntimeError, ValueError, LookupError, struct.error, zlib.error)
"""What reading a damaged archive raises."""


class _Saved(BaseModel):
    """The content of results.json."""

    run: dict[str, Any]
    records: list[Record]


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
        self._parts: list[Path] = []
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
        panel: Array,
        overlays: Mapping[str, Array],
        values: Mapping[str, Array],
        records: Sequence[Record],
    ) -> list[Record]:
        """Write the results of one image; return its records with panel, overlay and key of the values.

        Args:
            place: position of the image in the run.
            name: name of the image's files.
            panel: picture (H, W, 3) uint8.
            overlays: one picture for each method.
            values: raw values of each method.
            records: one record for each method, with its name under "method".
        """
        self._begin()
        save_png(self.path / _panel(name), panel)
        complete = []
        for record in records:
            method = record["method"]
            overlay = f"overlays/{name}.{method.replace('/', '-')}.png"
            save_png(self.path / overlay, overlays[method])
            outputs: Record = {"panel": _panel(name), "overlay": overlay, "values": f"{name}/{method}"}
            outputs["sha256"] = {kind: sha256(self.path / outputs[kind]) for kind in _PICTURES}
            complete.append(record | {"outputs": outputs})
        part = self._unfinished / f"{place:08}.npz"
        with atomic(part) as temporary, ZipFile(temporary, "w") as archive:
            for record in complete:
                archive.writestr(_entry(record), _bytes(values[record["method"]]))
            archive.writestr(ZipInfo(_RECORDS), json_text(complete))
        self._parts.append(part)
        return complete

    def known(self, name: str) -> list[Record]:
        """Return the records of an image that an earlier run explained and whose pictures are whole, or none."""
        records = self.kept.get(name, [])
        return records if all(self._is_whole(record["outputs"]) for record in records) else []

    def conclude(self, run: Mapping[str, Any], records: Sequence[Record]) -> None:
        """Write `attributions.npz` and `results.json` and remove the files of the unfinished run."""
        self._begin()
        self._join(run, records)

    def _is_whole(self, outputs: Record) -> bool:
        """Return whether the pictures of a record are those that were written."""
        try:
            return all(sha256(self.path / outputs[kind]) == outputs["sha256"][kind] for kind in _PICTURES)
        except BadInput:
            return False

    def _sweep(self) -> None:
        """Remove files that a killed run left half written."""
        for folder in (self.path, self.path / "panels", self.path / "overlays"):
            for file in folder.glob(".*.tmp*"):
                file.unlink(missing_ok=True)

    def _begin(self) -> None:
        """Move the results of another request to `earlier`, and make the folders of this one."""
        if self._begun:
            return
        self._begun = True
        if not self.kept:
            self._move_away(_RESULTS)
        for name in ("panels", "overlays", "unfinished"):
            output_directory(self.path / name)
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
        saved = self._saved()
        if saved is not None and all(saved.run.get(key) == run.get(key) for key in ("request", "date")):
            self._remove_unfinished()  # it was joined
            return
        parts = {part: records for part in sorted(self._unfinished.glob("*.npz")) if (records := _records(part))}
        self._parts = list(parts)
        new = [record for records in parts.values() for record in records]
        if saved is not None and not self._has_values(saved):
            self._move_away(_RESULTS[1:])
            saved = None
        entries = {_entry(record) for record in new}
        old = [record for record in saved.records if _entry(record) not in entries] if saved else []
        images = {record["outputs"]["panel"] for record in [*old, *new] if _entry(record)}
        self._join(run | {"images": len(images), "interrupted": True}, [*old, *new])

    def _join(self, run: Mapping[str, Any], records: Sequence[Record]) -> None:
        """Write the values of the records, from the files that have them, and the records."""
        places = {_entry(record): part for part in self._parts for record in _records(part)}
        earlier = self.path / "attributions.npz"
        with atomic(earlier) as temporary, ZipFile(temporary, "w") as archive:
            source: ZipFile | None = None
            for entry in filter(None, map(_entry, records)):
                place = places.get(entry, earlier)
                if source is None or source.filename != str(place):
                    if source is not None:
                        source.close()
                    source = ZipFile(place)
                archive.writestr(ZipInfo(entry), source.read(entry))
            if source is not None:
                source.close()
        content = {"run": dict(run), "records": list(records)}
        write_json(self.path / "results.json", content | {"checksum": _checksum(json.loads(json_text(content)))})
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Remove the files of an unfinished run; run.json goes first, so that what a kill leaves is no run."""
        (self._unfinished / "run.json").unlink(missing_ok=True)
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._parts = []

    def _saved(self) -> _Saved | None:
        """Return the content of results.json, or None if there is none of that form or it is damaged."""
        content = _json(self.path / "results.json")
        if not isinstance(content, dict) or content.pop("checksum", None) != _checksum(content):
            return None
        with suppress(ValidationError):
            return _Saved.model_validate(content)
        return None

    def _has_values(self, saved: _Saved) -> bool:
        """Return whether the values of all records can be read."""
        try:
            with ZipFile(self.path / "attributions.npz") as archive:
                known = set(archive.namelist()) if archive.testzip() is None else set()
        except _UNREADABLE:
            return False
        return known >= {entry for record in saved.records if (entry := _entry(record))}

    def _same_request(self) -> dict[str, list[Record]]:
        """Return the records of the same request by name, if the values of all of them can be read."""
        saved = self._saved()
        if saved is None or saved.run.get("request") != self._run["request"] or not self._has_values(saved):
            return {}
        named: dict[str, list[Record]] = {}
        for record in saved.records:
            if _entry(record):
                named.setdefault(Path(record["outputs"]["panel"]).stem, []).append(record)
        return named


def _panel(name: str) -> str:
    return f"panels/{name}.png"


def _checksum(content: Record) -> str:
    """Return what identifies the run and the records of results.json."""
    return fingerprint(content)


def _entry(record: Record) -> str:
    """Return the name of a record's values in an archive; "" for a record without values."""
    outputs = record.get("outputs")
    complete = isinstance(outputs, dict) and all(isinstance(outputs.get(key), str) for key in _OUTPUTS)
    return f"{outputs['values']}.npy" if complete and outputs else ""


def _bytes(values: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values, allow_pickle=False)
    return stream.getvalue()


def _records(part: Path) -> list[Record]:
    """Return the records of one image, or none if its file is damaged."""
    try:
        with ZipFile(part) as archive:
            records = TypeAdapter(list[Record]).validate_json(archive.read(_RECORDS))
            return records if archive.testzip() is None else []
    except _UNREADABLE:  # a ValidationError is a ValueError
        return []


def _json(path: Path) -> Any:
    """Return the content of a JSON file, or None if it cannot be read."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _is_used(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()
