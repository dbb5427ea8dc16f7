"""Maps on disk within a bound, in the application's own temporary folder: the least recently used are removed first.

key = hash of (picture, model, target, method, parameters, layer, seed) -> KEY.safetensors
"""

import threading
from contextlib import suppress
from pathlib import Path

from xaikit.foundation.errors import XaikitError
from xaikit.run.attribution import Attribution

LIMIT = 2**28  # bytes


class Cache:
    """Attributions by key in a folder.

    Args:
        folder: an existing folder, of the cache alone.
        limit: largest sum of the files' sizes, in bytes.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._lock = threading.Lock()

    def get(self, key: str) -> Attribution | None:
        """Return the attribution of a key without its pictures, or None if it is not there undamaged."""
        file = self._file(key)
        if not file.is_file():
            return None
        with suppress(XaikitError, OSError):
            attribution = Attribution.load(file)
            file.touch()
            return attribution
        return None

    def put(self, key: str, attribution: Attribution) -> None:
        """Keep an attribution; a disk that is full keeps nothing, which costs a later run its time alone."""
        with suppress(XaikitError, OSError):
            attribution.save(self._file(key))
            self._trim()

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _trim(self) -> None:
        with self._lock:
            files = sorted(((file.stat(), file) for file in self.folder.glob("*.safetensors")), key=_age)
            size = sum(stat.st_size for stat, _ in files)
            for stat, file in files:
                if size <= self.limit:
                    break
                file.unlink(missing_ok=True)
                size -= stat.st_size


def _age(entry: tuple[object, Path]) -> float:
    return entry[1].stat().st_mtime
