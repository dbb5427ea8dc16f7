"""The results folder of an explain run: pictures, raw values and records, in complete files at every moment.

    panels/NAME.png            the input and every method's overlay
    overlays/NAME.METHOD.png   one overlay
    attributions.npz           raw values under the key NAME/METHOD
    results.json               {"run": {...}, "records": [...]}

Pictures are written image by image; values go to a temporary file that is renamed when the run ends or is interrupted.
NAME is the stem of the image's file, preceded by as many of its folders as make it unique.
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

_LONGEST = 150  # maximal bytes of NAME; a method's name is added, and file systems allow 255 bytes


@dataclass(frozen=True)
class ResultsFolder:
    """An open folder of results.

    Args:
        path: path of the folder.
        archive: open archive of the raw values.
    """

    path: Path
    archive: ZipFile

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[ResultsFolder]:
        """Yield the folder; `attributions.npz` is renamed from its temporary file when the block ends.

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
        """Write the results of one image; return panel, overlay and key of the values for each method."""
        outputs = {}
        save_png(self.path / f"panels/{name}.png", panel)
        for method, overlay in overlays.items():
            file, key = f"overlays/{name}.{method.replace('/', '-')}.png", f"{name}/{method}"
            save_png(self.path / file, overlay)
            self._add(key, values[method])
            outputs[method] = {"panel": f"panels/{name}.png", "overlay": file, "values": key}
        return outputs

    def _add(self, key: str, values: Array) -> None:
        stream = io.BytesIO()
        np.lib.format.write_array(stream, values, allow_pickle=False)
        self.archive.writestr(ZipInfo(f"{key}.npy"), stream.getvalue())

    def conclude(self, run: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Write `results.json`."""
        write_json(self.path / "results.json", {"run": dict(run), "records": list(records)})


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received and callable(handler):
        handler(*received[0])


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return one file name for each path: its stem, with folders or suffix only where stems are equal.

    Names also differ when case is ignored, as some file systems do.
    """
    names = [_shortened(path.stem) for path in paths]
    for longer in (_in_folder, lambda path: path.name, lambda path: "-".join(path.parts[-2:]), _whole):
        names = _lengthened(names, paths, longer)
    taken: Counter[str] = Counter()
    return [_numbered(name, taken) for name in names]


def printable(path: str | Path) -> str:
    """Return a path as text that can be encoded in UTF-8."""
    return str(path).encode("utf-8", "replace").decode()


def _lengthened(names: Sequence[str], paths: Sequence[Path], longer: Callable[[Path], str]) -> list[str]:
    """Return the names, with duplicates replaced by their longer names."""
    count = Counter(name.casefold() for name in names)
    pairs = zip(names, paths, strict=True)
    return [_shortened(longer(path)) if count[name.casefold()] > 1 else name for name, path in pairs]


def _in_folder(path: Path) -> str:
    return "-".join([*path.parts[-2:-1], path.stem])


def _whole(path: Path) -> str:
    return "-".join(part for part in path.parts if part not in (path.anchor, ".."))


def _shortened(name: str) -> str:
    return printable(name).encode()[-_LONGEST:].decode("utf-8", "ignore")


def _numbered(name: str, taken: Counter[str]) -> str:
    """Return the name, with a number appended if it is taken."""
    result = name
    while taken[result.casefold()]:
        taken[name.casefold()] += 1
        result = f"{name}-{taken[name.casefold()]}"
    taken[result.casefold()] += 1
    return result
