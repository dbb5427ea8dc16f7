"""The exceptions and warnings of xaikit.

    XaikitError
    |-- BadInput (ValueError)         an argument, a file or a model that cannot be used
    |   `-- CannotWrite               a result that cannot be written: the run ends, whatever it was doing
    |-- UnknownName (LookupError)     a method, measure, model or label that does not exist
    |-- NoSuchLayer (LookupError)     a layer that the network does not have
    |-- MissingExtra (ImportError)    an optional package that is not installed
    `-- BadChecksum (ValueError)      a file made for another model, layer or preprocessing

A message is one line: what was expected, what the value is, and what to do about it.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Any


class XaikitError(Exception):
    """Base class of all errors that xaikit raises; it keeps its class and message between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message, not the arguments that it was made from."""
        return _with_message, (type(self), str(self))


class BadInput(XaikitError, ValueError):
    """An argument, a file or a model that cannot be used."""


class CannotWrite(BadInput):
    """A result that cannot be written, on a full disk for example; it is no failure of the picture at hand."""


class UnknownName(XaikitError, LookupError):
    """A name that is not registered; the message suggests similar names."""

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        close = near_names(name, known)
        hint = f"did you mean {' or '.join(close)}?" if close else remedy or "see the list of known names"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class NoSuchLayer(XaikitError, LookupError):
    """A layer name that the network does not have; the message suggests similar names."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(known)
        close = near_names(name, known) or known[-3:]
        super().__init__(
            f"no layer {name!r} in the network; did you mean {', '.join(close) or 'none: it has no layers'}?"
        )


class MissingExtra(XaikitError, ImportError):
    """An optional package that is not installed; the message gives the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 'xaikit[{extra}]'")


class BadChecksum(XaikitError, ValueError):
    """A file made for another model, layer or preprocessing."""


class XaikitWarning(UserWarning):
    """A behaviour that the user may not expect."""


class LeftOut(XaikitWarning):
    """An image was left out because it could not be used; the message says why."""


def near_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return at most `count` known names similar to `name`: they start with it, are alike, share a word."""
    by_lower = {candidate.lower(): candidate for candidate in reversed(list(known))}
    wanted = name.lower()
    longer = [candidate for candidate in by_lower if len(wanted) > 2 and candidate.startswith(wanted)]
    words = [candidate for candidate in by_lower if _long_words(wanted) & _long_words(candidate)]
    close = difflib.get_close_matches(wanted, by_lower, n=count, cutoff=0.55)
    near = dict.fromkeys([*sorted(longer, key=len), *close, *sorted(words, key=len)])
    return [by_lower[candidate] for candidate in near][:count]


def _long_words(name: str) -> set[str]:
    return {word for word in re.split(r"[^a-z0-9]+", name) if len(word) > 3}


def _with_message(kind: type[XaikitError], message: str) -> XaikitError:
    return kind.__new__(kind, message)
