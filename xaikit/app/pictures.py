"""The pictures of the application: those of a folder, and those that were dropped into the page.

file or upload -> Picture(id, name), which is all that the page learns of it; the path stays on this side
"""

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.texts import printable
from xaikit.images.decoding import IMAGE_SUFFIXES, decode
from xaikit.images.folders import sha256
from xaikit.images.reading import Read, save_png, to_picture
from xaikit.images.synthetic import draw

MOST_BYTES = 2**25
"""Largest upload, in bytes."""

_MOST_UPLOADS = 200
_NAME = 80  # characters
_THUMBNAIL = 112
_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/](?:[^\\/:;\"'\n]+[\\/])+")


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        id: what the page calls it.
        name: file name without folders, for people.
        path: where the file is.
    """

    id: str
    name: str
    path: Path

    def told(self, error: BaseException) -> str:
        """Return an error as one line with the picture's name in place of its path."""
        text = " ".join(str(error).split())
        text = text if isinstance(error, XaikitError) else f"{type(error).__name__}: {text}"
        return without_folders(printable(text).replace(printable(self.path), self.name))


def without_folders(text: str) -> str:
    """Return a text in which every absolute path is its last part."""
    return _FOLDERS.sub("", text)


class Shelf:
    """All pictures, in order.

    Args:
        files: files of pictures, which are not read yet.
        uploads: folder for what is dropped into the page.
    """

    def __init__(self, files: Iterable[Path], uploads: Path) -> None:
        self._uploads = uploads
        self._lock = threading.Lock()
        self._count = 0
        self._pictures = {picture.id: picture for picture in map(_of_file, files)}

    def __len__(self) -> int:
        return len(self._pictures)

    def pictures(self) -> list[Picture]:
        """Return all pictures."""
        with self._lock:
            return list(self._pictures.values())

    def get(self, picture: str) -> Picture:
        """Return the picture of an id.

        Raises:
            BadInput: there is none.
        """
        with self._lock:
            if picture not in self._pictures:
                raise BadInput("picture: expected one of the strip, got another; choose one there")
            return self._pictures[picture]

    def add(self, name: str, content: bytes) -> Picture:
        """Keep an upload under the temporary folder and return it; the same content is one picture.

        Raises:
            BadInput: it is too large, too much, or no picture that the reader reads.
        """
        name = printable(name.replace("\\", "/").rpartition("/")[2])[-_NAME:] or "picture"
        if len(content) > MOST_BYTES:
            raise BadInput(f"{name}: expected at most {MOST_BYTES // 2**20} MB, got more; make the picture smaller")
        suffix = Path(name).suffix.lower()
        digest = hashlib.sha256(content).hexdigest()
        path = self._uploads / f"{digest}{suffix if suffix in IMAGE_SUFFIXES else ''}"
        picture = Picture(digest[:16], name, path)
        with self._lock:
            if picture.id in self._pictures:
                return self._pictures[picture.id]
            if self._count >= _MOST_UPLOADS:
                raise BadInput(f"{name}: expected at most {_MOST_UPLOADS} uploads, got more; start the app again")
        path.write_bytes(content)
        try:
            decode(path)
        except XaikitError as error:
            path.unlink(missing_ok=True)
            raise BadInput(picture.told(error)) from error
        with self._lock:
            self._count += 1
            return self._pictures.setdefault(picture.id, picture)


@lru_cache(maxsize=2048)
def thumbnail(picture: Picture) -> bytes:
    """Return a small JPEG of a picture; grey, if it cannot be read."""
    try:
        shown = Read(torch.empty(0), None, decode(picture.path)).shown
    except (XaikitError, OSError):
        shown = None
    image = Image.fromarray(np.full((16, 16, 3), 128, np.uint8) if shown is None else shown)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), reducing_gap=2.0)
    stream = BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def content_of(picture: Picture) -> str:
    """Return the hash of the picture's file as it is now."""
    return sha256(picture.path)


def _of_file(path: Path) -> Picture:
    identity = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Picture(identity, printable(path.name)[-_NAME:], path)


def drawn_pictures(folder: Path, count: int = 6) -> list[Path]:
    """Draw synthetic pictures, for an application that is started without any."""
    paths = []
    for place, pixels in enumerate(draw(count, seed=0).pixels):
        paths.append(folder / f"drawn-{place}.png")
        save_png(paths[-1], to_picture(pixels))
    return paths


def temporary() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, for everything that the application writes unasked."""
    return tempfile.TemporaryDirectory(prefix="xaikit-app-")
