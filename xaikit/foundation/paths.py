"""Paths as they are shown and recorded: relative to the working directory or without their folder, never absolute.

relative(/srv/project/data/x)     data/x      if the working directory is /srv/project
relative(/home/someone/x)         x
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


def relative(path: Path) -> str:
    """Return a path relative to the working directory, or its name if it lies elsewhere."""
    try:
        return path.relative_to(Path.cwd()).as_posix() if path.is_absolute() else path.as_posix()
    except ValueError:
        return path.name


def without_folders(text: str, folders: Iterable[Path]) -> str:
    """Return a text with paths below the folders, the working directory and the home shortened to the rest."""
    for folder in (*folders, Path.cwd(), Path.home()):
        if folder.is_absolute() and folder != Path(folder.anchor):
            text = text.replace(f"{folder}{os.sep}", "")
    return text


def shortened(value: Any, shorten: Callable[[Path], str]) -> Any:
    """Return a JSON-like value with its paths, and texts that are absolute paths, shortened."""
    if isinstance(value, Mapping):
        return {name: shortened(item, shorten) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [shortened(item, shorten) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return shorten(Path(value))
    return shorten(value) if isinstance(value, Path) else value


def shortened_words(words: list[str]) -> list[str]:
    """Return the words of a command line with absolute paths shortened, also those after an equals sign."""
    return ["=".join(shortened(part, relative) for part in word.split("=")) for word in words]
