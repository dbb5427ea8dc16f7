"""Folders of images: all images below a path, and folders whose subfolders are classes or splits.

    walk([photo.jpg, album/])       photo.jpg, then all of album/, sorted by path
    class_folder(root)              root/cat/a.jpg, root/dog/b.jpg -> ["cat", "dog"], [(a.jpg, 0), (b.jpg, 1)]
    split_folders(root)             root/training, root/dev, root/test -> {"train": ..., "val": ..., "test": ...}

A file given by name may have any suffix; inside folders only files with `IMAGE_SUFFIXES` count, and names that start
with a dot and __MACOSX are skipped. Links to folders are followed, each real folder once, with a warning if they lead
out. The name of a split is never a class; a folder without any file is neither.
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from xaikit.foundation.errors import BadInput, XaikitWarning
from xaikit.foundation.files import kind_of
from xaikit.images.decoding import IMAGE_SUFFIXES

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_ARCHIVE_LEFTOVER = "__MACOSX"


def walk(paths: Iterable[str | Path]) -> list[Path]:
    """Return the given files and the images inside the given folders, in order.

    Raises:
        BadInput: a path does not exist, or a folder has no image; `walk_each` yields the error instead.
    """
    files = []
    for path, error in walk_each(paths):
        if error is not None:
            raise error
        files.append(path)
    return files


def walk_each(paths: Iterable[str | Path]) -> Iterator[tuple[Path, BadInput | None]]:
    """Yield each image file with None, and each path without a usable image with the error.

    Warns:
        XaikitWarning: a link inside a folder leads out of it; the pictures behind it are taken as well.
    """
    for path in map(Path, paths):
        kind = kind_of(path)
        if kind == "folder":
            files = _files_below(path)
            if not files:
                suffixes = " ".join(sorted(IMAGE_SUFFIXES))
                yield path, BadInput(f"{path}: expected a folder with images, got none in it; suffixes are {suffixes}")
            yield from files
        elif kind == "file":
            yield path, None
        else:
            yield path, BadInput(f"{path}: expected a file or a folder, got {kind}; check the path")


def class_folder(root: str | Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Return the class names (the sorted names of the subfolders) and every image with its class index.

    Raises:
        BadInput: `root` is not a folder, has no subfolders, has a subfolder with files of which none is an image, or
            one with the name of a split.
    """
    folders = _subfolders(Path(root))
    if not folders:
        raise BadInput(f"{root}: expected one subfolder per class, got none; sort the images into class folders")
    if splits := [folder.name for folder in folders if folder.name.lower() in _SPLITS]:
        raise BadInput(
            f"{root}: expected one subfolder per class, got the split {splits[0]!r}; give {Path(root) / splits[0]}, or "
            "rename the folder if it is a class"
        )
    samples = [(image, index) for index, folder in enumerate(folders) for image in walk([folder])]
    return [folder.name for folder in folders], samples


def split_folders(root: str | Path) -> dict[str, Path]:
    """Return the subfolders that are splits, by "train", "val" and "test"; none if `root` holds classes only.

    Raises:
        BadInput: `root` is not a folder, has two folders for one split, or a split has no class folders.

    Warns:
        XaikitWarning: there are other folders beside the splits, which are passed over.
    """
    splits: dict[str, Path] = {}
    others: list[str] = []
    for folder in _subfolders(Path(root)):
        split = _SPLITS.get(folder.name.lower())
        if split is None:
            others.append(folder.name)
        elif split in splits:
            raise BadInput(f"{root}: expected one folder for {split}, got {splits[split].name} and {folder.name}")
        elif not _subfolders(folder):
            raise BadInput(f"{folder}: expected one subfolder per class in a split, got none; no class has this name")
        else:
            splits[split] = folder
    if splits and others:
        warnings.warn(f"{root}: has splits; passed over beside them: {', '.join(others)}", XaikitWarning, stacklevel=2)
    return splits


def _subfolders(root: Path) -> list[Path]:
    """Return the folders in a folder that hold any file, sorted by name."""
    if kind_of(root) != "folder":
        raise BadInput(f"{root}: expected a folder with one subfolder per class, got no folder; check the path")
    folders = [entry for entry in _entries(root) if kind_of(entry) == "folder" and _has_files(entry)]
    return sorted(folders, key=lambda folder: folder.name)


def _has_files(folder: Path) -> bool:
    return any(kind_of(entry) != "folder" or entry.is_symlink() or _has_files(entry) for entry in _entries(folder))


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


def _files_below(folder: Path) -> list[tuple[Path, BadInput | None]]:
    """Return the images below a folder with None, and unreadable paths with the error, sorted by path."""
    files: list[tuple[Path, BadInput | None]] = []
    seen: set[Path] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        if current.is_symlink() and not real.is_relative_to(folder.resolve()):
            warnings.warn(
                f"{current}: a link that leads out of {folder}; the pictures behind it are taken as well",
                XaikitWarning,
                stacklevel=4,
            )
        try:
            entries = _entries(current)
        except BadInput as error:
            files.append((current, error))
            continue
        for entry in entries:
            kind = kind_of(entry)
            if kind == "folder":
                pending.append(entry)
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                problem = None if kind == "file" else BadInput(f"{entry}: expected a picture, got {kind}; remove it")
                files.append((entry, problem))
    return sorted(files, key=lambda item: item[0].relative_to(folder).parts)


def _entries(folder: Path) -> list[Path]:
    """Return the entries of a folder in a fixed order, without hidden names and what macOS adds to archives."""
    try:
        entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
        return sorted((entry for entry in entries if entry.name != _ARCHIVE_LEFTOVER), reverse=True)
    except OSError as error:
        raise BadInput(f"{folder}: the folder cannot be listed ({error.strerror}); check its permissions") from error
