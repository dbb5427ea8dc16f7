"""Names of an image's result files: the stem of its file, with folders or suffix only where stems are equal."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from xaikit.foundation.texts import printable

_MANY, _FOLDER = 10_000, 1_000  # of more images than the first number, a folder holds as many as the second
_LONGEST = 150  # maximal bytes of a name; a method's name is added, and file systems allow 255 bytes


def result_names(paths: Sequence[Path]) -> list[str]:
    """Return the name of each image's result files: unique, and in a folder for each thousand of very many images."""
    names = unique_names(paths)
    if len(names) <= _MANY:
        return names
    return [f"{place // _FOLDER:04}/{name}" for place, name in enumerate(names)]


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return one file name for each path: its stem, with folders or suffix only where stems are equal.

    Names also differ when case is ignored, as some file systems do.
    """
    names = [_shortened(path.stem) for path in paths]
    for longer in (_in_folder, lambda path: path.name, lambda path: "-".join(path.parts[-2:]), _whole):
        names = _lengthened(names, paths, longer)
    taken: Counter[str] = Counter()
    return [_numbered(name, taken) for name in names]


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
