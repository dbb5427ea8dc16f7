"""The folder of one explain run: pictures, raw values and records, whole at every moment.

    panels/NAME.png            the input and every method's overlay
    overlays/NAME.METHOD.png   one overlay
    attributions.npz           raw values by the key NAME/METHOD
    results.json               {"run": {...}, "records": [...]}

Pictures appear one by one; values go into a temporary file that gets its name when the run ends, also by an interrupt.
NAME is the stem of the image's file, with as much of its folders as tells it from the others.
"""

from __future__ import annotations

import io
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from xaikit.foundation.files import atomic, output_directory, write_json
from xaikit.images.reading import save_png

Array = np.ndarray[Any, Any]

_LONGEST = 150  # bytes of a name, to which a method's name is added; file systems end at 255


@dataclass(frozen=True)
class ResultsFolder:
    """An open folder of results.

    Args:
        path: the folder.
        archive: of the raw values.
    """

    path: Path
    archive: ZipFile

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[ResultsFolder]:
        """Yield the folder; when the block ends, `attributions.npz` gets its name.

        Raises:
            BadInput: the folder cannot be written.
        """
        path = output_directory(path)
        for name in ("panels", "overlays"):
            output_directory(path / name)
        with atomic(path / "attributions.npz") as temporary, ZipFile(temporary, "w") as archive:
            yield cls(path, archive)

    def write(
        self, name: str, panel: Array, overlays: Mapping[str, Array], values: Mapping[str, Array]
    ) -> dict[str, dict[str, str]]:
        """Write all about one image; return, by method, where it is: panel, overlay and key of the values."""
        places = {}
        save_png(self.path / f"panels/{name}.png", panel)
        for method, overlay in overlays.items():
            file, key = f"overlays/{name}.{method.replace('/', '-')}.png", f"{name}/{method}"
            save_png(self.path / file, overlay)
            self._add(key, values[method])
            places[method] = {"panel": f"panels/{name}.png", "overlay": file, "values": key}
        return places

    def _add(self, key: str, values: Array) -> None:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, values, allow_pickle=False)
        self.archive.writestr(ZipInfo(f"{key}.npy"), stream.getvalue())

    def conclude(self, run: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Write `results.json`."""
        write_json(self.path / "results.json", {"run": dict(run), "records": list(records)})


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked and callable(before):
        before(*asked[0])


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return one file name a path: its stem, with folders or suffix only where stems are equal.

    No two differ by upper and lower case alone, because some file systems do not tell them apart.
    """
    names = [_folded(path.stem) for path in paths]
    for longer in (_in_folder, lambda path: path.name, lambda path: "-".join(path.parts[-2:]), _whole):
        names = _apart(names, paths, longer)
    taken: Counter[str] = Counter()
    return [_numbered(name, taken) for name in names]


def printable(path: str | Path) -> str:
    """Return a path as text that any UTF-8 file can hold."""
    return str(path).encode("utf-8", "replace").decode()


def _apart(names: Sequence[str], paths: Sequence[Path], longer: Callable[[Path], str]) -> list[str]:
    """Give the paths whose names are equal their longer names."""
    count = Counter(name.casefold() for name in names)
    return [
        _folded(longer(path)) if count[name.casefold()] > 1 else name for name, path in zip(names, paths, strict=True)
    ]


def _in_folder(path: Path) -> str:
    return "-".join([*path.parts[-2:-1], path.stem])


def _whole(path: Path) -> str:
    return "-".join(part for part in path.parts if part not in (path.anchor, ".."))


def _folded(name: str) -> str:
    return printable(name).encode()[-_LONGEST:].decode("utf-8", "ignore")


def _numbered(name: str, taken: Counter[str]) -> str:
    """Return the name, with a number where it was given before."""
    result = name
    while taken[result.casefold()]:
        taken[name.casefold()] += 1
        result = f"{name}-{taken[name.casefold()]}"
    taken[result.casefold()] += 1
    return result
