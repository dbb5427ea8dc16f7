"""Everything xaikit raises on purpose.

    XaikitError
    |-- BadInput (ValueError)         an argument, a file or a model that cannot be used
    |-- UnknownName (LookupError)     a method, measure, model or label that does not exist
    |-- NoSuchLayer (LookupError)     a layer that the network does not have
    |-- MissingExtra (ImportError)    an optional package that is not installed
    `-- BadChecksum (ValueError)      a file made for another model, layer or preprocessing

A message is one line that says what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XaikitError(Exception):
    """Base of every error raised on purpose."""


class BadInput(XaikitError, ValueError):
    """An argument, a file or a model that cannot be used."""


class UnknownName(XaikitError, LookupError):
    """A name that is not registered, with the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        close = near_names(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else remedy or "see the list of known names"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class NoSuchLayer(XaikitError, LookupError):
    """A layer name that the network does not have, with the nearest ones."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(known)
        close = near_names(name, known) or known[-3:]
        super().__init__(
            f"no layer {name!r} in the network; did you mean {', '.join(close) or 'none: it has no layers'}?"
        )


class MissingExtra(XaikitError, ImportError):
    """An optional package that is not installed, with the line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'xaikit[{extra}]'")


class BadChecksum(XaikitError, ValueError):
    """A file that belongs to another model, layer or preprocessing."""


class XaikitWarning(UserWarning):
    """Something was done that the user may not expect; the message says what."""


class LeftOut(XaikitWarning):
    """An image that could not be used was left out; the message says why."""


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return at most `count` known names that look like `name`: those that begin with it first, then by likeness."""
    by_lower = {one.lower(): one for one in reversed(list(known))}
    wanted = name.lower()
    longer = [one for one in by_lower if len(wanted) > 2 and one.startswith(wanted)]
    close = difflib.get_close_matches(wanted, by_lower, n=count, cutoff=0.55)
    return [by_lower[one] for one in dict.fromkeys([*sorted(longer, key=len), *close])][:count]
