"""Folders of images: every picture below a path, and folders whose subfolders are classes.

    walk([photo.jpg, album/])       photo.jpg, then all of album/, sorted by path
    class_folder(root)              root/cat/a.jpg, root/dog/b.jpg -> ["cat", "dog"], [(a.jpg, 0), (b.jpg, 1)]

A file that is named is taken whatever its suffix; inside folders only `IMAGE_SUFFIXES` count, and names that start
with a dot are passed over. Links to folders are followed, each real folder once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of
from xaikit.images.reading import IMAGE_SUFFIXES


def walk(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files named and the images inside the folders named, in order.

    Raises:
        BadInput: a path does not exist, or a folder has no image in it; `walk_each` goes on instead.
    """
    found = []
    for path, error in walk_each(paths):
        if error is not None:
            raise error
        found.append(path)
    return found


def walk_each(paths: Iterable[str | Path]) -> Iterator[tuple[Path, BadInput | None]]:
    """Yield each file with None, and each path that leads to no image with the reason."""
    for path in map(Path, paths):
        kind = kind_of(path)
        if kind == "folder":
            found = _below(path)
            if not found:
                yield path, BadInput(f"{path}: expected a folder with images, got none in it; {_suffixes()} count")
            yield from found
        elif kind == "file":
            yield path, None
        else:
            yield path, BadInput(f"{path}: expected a file or a folder, got {kind}; check the path")


def class_folder(root: str | Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Return the class names (sorted names of subfolders) and every image with the index of its class.

    Raises:
        BadInput: `root` is no folder, has no subfolders, or a subfolder has no image in it.
    """
    root = Path(root)
    if kind_of(root) != "folder":
        raise BadInput(f"{root}: expected a folder with one subfolder a class, got no folder; check the path")
    folders = sorted((entry for entry in _entries(root) if kind_of(entry) == "folder"), key=lambda entry: entry.name)
    if not folders:
        raise BadInput(f"{root}: expected one subfolder a class, got none; sort the images into class folders")
    samples = [(image, index) for index, folder in enumerate(folders) for image in walk([folder])]
    return [folder.name for folder in folders], samples


def sha256(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _below(folder: Path) -> list[tuple[Path, BadInput | None]]:
    """Return the images below a folder, sorted by path, and what cannot be looked into with the reason."""
    found: list[tuple[Path, BadInput | None]] = []
    seen: set[Path] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        try:
            entries = _entries(current)
        except BadInput as error:
            found.append((current, error))
            continue
        for entry in entries:
            kind = kind_of(entry)
            if kind == "folder":
                pending.append(entry)
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                refused = None if kind == "file" else BadInput(f"{entry}: expected a picture, got {kind}; take it away")
                found.append((entry, refused))
    return sorted(found, key=lambda one: one[0].relative_to(folder).parts)


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, in a fixed order, without hidden names."""
    try:
        return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), reverse=True)
    except OSError as error:
        raise BadInput(f"{folder}: the folder cannot be listed ({error.strerror}); check its permissions") from error


def _suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))
