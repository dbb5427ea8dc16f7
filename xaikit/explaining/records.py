"""Records of an explain run, held as lines of JSON: under a kilobyte each, decoded when they are read.

    {"run": {...},
    "records": [
    {...},
    {...}
    ],
    "checksum": "..."}

results.json has one record a line, so that any number of them is written and read one by one. The checksum is the
sha256 of all lines before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from xaikit.foundation.files import atomic, json_line

Record = dict[str, Any]

_BEGIN, _BETWEEN, _END = '{"run": ', '"records": [', "],"


class Records(Sequence[Record]):
    """A sequence of records that holds their lines.

    Args:
        records: what it begins with.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.lines = [json_line(record) for record in records]

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> Records:
        """Return the records that are written on the lines."""
        records = cls()
        records.lines = list(lines)
        return records

    def append(self, record: Record) -> None:
        """Add a record; NaN and infinity become null, tuples lists."""
        self.lines.append(json_line(record))

    def __iadd__(self, records: Iterable[Record]) -> Records:
        """Add records."""
        self.lines += records.lines if isinstance(records, Records) else map(json_line, records)
        return self

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.lines)

    def __iter__(self) -> Iterator[Record]:
        """Decode one record after the other."""
        return map(json.loads, self.lines)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: int | slice) -> Record | Records:
        """Return a record, or the records of a slice."""
        if isinstance(place, slice):
            return self.of_lines(self.lines[place])
        found: Record = json.loads(self.lines[place])
        return found


def write_results(path: Path, run: Mapping[str, Any], records: Records) -> None:
    """Write results.json, atomically."""
    digest = hashlib.sha256()
    with atomic(path) as temporary, temporary.open("wb") as stream:
        for line in _lines(run, records):
            content = f"{line}\n".encode()
            digest.update(content)
            stream.write(content)
        stream.write(_checksum(digest.hexdigest()))


def read_results(path: Path) -> tuple[dict[str, Any], Records] | None:
    """Return the run and the records of results.json, or None if there is none or it is not what was written."""
    digest, lines, last = hashlib.sha256(), [], b""
    try:
        with path.open("rb") as stream:
            for content in stream:
                digest.update(last)
                last = content
                lines.append(content.decode().rstrip("\n"))
    except (OSError, ValueError):
        return None
    if last != _checksum(digest.hexdigest()):
        return None
    run: dict[str, Any] = json.loads(lines[0].removeprefix(_BEGIN).removesuffix(","))
    return run, Records.of_lines(line.removesuffix(",") for line in lines[2:-2])


def _lines(run: Mapping[str, Any], records: Records) -> Iterator[str]:
    yield f"{_BEGIN}{json_line(dict(run))},"
    yield _BETWEEN
    last = len(records) - 1
    for place, line in enumerate(records.lines):
        yield line if place == last else f"{line},"
    yield _END


def _checksum(digest: str) -> bytes:
    return f'"checksum": "{digest}"}}\n'.encode()
