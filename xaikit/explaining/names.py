"""Names of an image's result files: the stem of its file, with folders or suffix only where stems are equal."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from xaikit.foundation.texts import printable

_LONGEST = 150  # maximal bytes of a name; a method's name is added, and file systems allow 255 bytes


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
