r"""Texts that come from file names, files and commands, made fit for where they are written.

    printable       encodable in UTF-8: bytes of a file name that are no text become "?"
    named           the same for names: such bytes become \udcff, so that different names stay different
    visible         safe in a terminal: control, direction and line characters are shown as \x1b, \u202e, ...
    visible_json    the same for JSON, whose line ends stay
    shown_path      a path without the folders above the working directory
    shown_command   a command line whose paths are shown in the same way

Whoever names a file chooses these texts; the terminal and the reader of the records are somebody else's.
"""

import shlex
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from xaikit.foundation.paths import relative, shortened_words

_OBEYED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # categories of Unicode: controls, half characters, line ends
_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def printable(text: str | Path) -> str:
    """Return a text or path that can be encoded in UTF-8."""
    return str(text).encode("utf-8", "replace").decode()


def named(text: str | Path) -> str:
    """Return a name or path that can be encoded in UTF-8; different ones stay different."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def visible(text: str) -> str:
    """Return a text in which every character that a terminal obeys instead of showing is written as its escape.

    Escape sequences cannot move the cursor or set titles, line ends cannot forge a line, and marks of direction cannot
    reorder what is read.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def visible_json(text: str) -> str:
    """Return JSON text in which characters that a terminal obeys are written as JSON escapes; its value is the same."""
    return "".join(f"\\u{ord(letter):04x}" if letter != "\n" and _is_obeyed(letter) else letter for letter in text)


def _shown(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii") if _is_obeyed(letter) else letter


def _is_obeyed(letter: str) -> bool:
    return unicodedata.category(letter) in _OBEYED or unicodedata.bidirectional(letter) in _DIRECTIONS


def shown_path(path: str | Path) -> str:
    """Return a path as records have it: relative, or the name alone if it lies outside the working directory."""
    return printable(relative(Path(path)))


def shown_command(words: Sequence[str]) -> str:
    """Return a command line as records have it, with its paths shown in the same way."""
    return printable(shlex.join(shortened_words(list(words))))
