"""TOML files written by users: reading, and validation errors as one line.

file -> values -> a pydantic model -> ValidationError -> "unknown key 'modles'; did you mean models?"
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xaikit.foundation.errors import BadInput, near_names
from xaikit.foundation.files import kind_of


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the values in a TOML file.

    Args:
        path: path of the file.
        what: word for the file in messages, such as "suite".

    Raises:
        BadInput: the file does not exist or is not TOML.
    """
    if (kind := kind_of(path)) not in ("file", "nothing there"):
        raise BadInput(f"{path}: expected a {what} file, got {kind}; check the path")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: expected a {what} file, got none ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: expected TOML, got something else ({error})") from error


def first_problem(error: ValidationError, known: Iterable[str]) -> str:
    """Return the first problem of a validation error, in one line.

    Args:
        error: the pydantic error.
        known: the valid keys, from which similar ones are suggested for an unknown key.
    """
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        close = near_names(str(problem["loc"][-1]), known)
        remedy = f"did you mean {' or '.join(close)}?" if close else "remove it"
        return f"unknown key {key!r}; {remedy}"
    if problem["type"] == "missing":
        return f"expected the key {key!r}, got none; add it"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[:1].lower()}{message[1:]}, got {problem['input']!r}"
