"""Files: atomic writes, output folders, and the data files of the package.

write to a temporary file in the same folder -> flush to disk -> rename to the target
"""

import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from xaikit.foundation.errors import CannotWrite


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` when the block succeeds.

    An exception or an interrupt inside the block removes the temporary file and leaves `path` unchanged.
    The temporary name starts with a dot and keeps the suffix, because libraries choose the format by it.

    Raises:
        CannotWrite: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp{path.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror or error}); choose another output") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity become null."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return `value` as indented JSON; NaN and infinity become null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def json_line(value: Any) -> str:
    """Return `value` as JSON without a line break; NaN and infinity become null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def kind_of(path: str | Path) -> str:
    """Return a phrase for what is at a path: "file", "folder", "nothing there", "no permission to look" or another."""
    try:
        mode = Path(path).stat().st_mode
    except PermissionError:
        return "no permission to look"
    except (OSError, ValueError):
        return "nothing there"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "a pipe, a socket or a device"


def output_directory(path: str | Path) -> Path:
    """Create a folder for results, check that files can be written in it, and return its path.

    Raises:
        CannotWrite: it is a file, or it cannot be created or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        trial = path / f".{secrets.token_hex(6)}.trial"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise CannotWrite(
            f"{path}: not a folder that can be written ({error.strerror}); choose another with -o"
        ) from error
    return path


def package_data(relative: str) -> Path:
    """Return the path of a file or folder included in the package, such as `models/texture-cnn`."""
    return Path(str(resources.files("xaikit"))) / "package_data" / relative
