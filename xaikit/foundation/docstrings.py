"""Parts of a docstring: of a class its first line and its parameters, of a file with methods or measures all of it.

Grad-CAM: activation maps weighted by their mean gradient.     -> meaning, "Activation maps weighted by ..."
map = relu(sum_k mean_xy(d score / d A_k) * A_k)           -> formula, the first indented block
In words: The gradient of the class score is ...           -> in_words, "The gradient of the class score is ..."
other paragraphs                                           -> notes
Source: Selvaraju et al., ICCV 2017, eq. 1-2               -> labelled(..., "Source")
"""

import inspect
import re
import sys
import textwrap
from typing import Any

_IN_WORDS = "In words: "
_LABELS = ("Shapes", "Units", "Source", "Departs from source", "Direction", "Cost")


def first_line(docstring: str | None) -> str:
    """Return the first line of a docstring, "" without one."""
    return (docstring or "").strip().partition("\n")[0].strip()


def meaning(docstring: str | None) -> str:
    """Return the first line of a file's docstring without the name that it begins with, as a sentence."""
    line = first_line(docstring)
    words = line.partition(": ")[2] or line
    return words[:1].upper() + words[1:]


def formula(docstring: str | None) -> str:
    """Return the first indented block of a file's docstring, which follows its first line, or ""."""
    block: list[str] = []
    for line in (docstring or "").strip().splitlines()[1:]:
        if line.startswith("    "):
            block.append(line)
        elif block or line.strip():
            break
    return textwrap.dedent("\n".join(block))


def in_words(docstring: str | None) -> str:
    """Return the paragraph of a file's docstring that begins with "In words: ", without these words, as one line."""
    for paragraph in (docstring or "").split("\n\n"):
        if paragraph.startswith(_IN_WORDS):
            return " ".join(paragraph.removeprefix(_IN_WORDS).split())
    return ""


def notes(docstring: str | None) -> list[str]:
    """Return the paragraphs of a file's docstring that are neither title, formula, words nor labelled."""
    _, *paragraphs = (docstring or "").strip().split("\n\n")
    others = paragraphs[1:] if formula(docstring) else paragraphs
    known = (_IN_WORDS, *(f"{name}:" for name in _LABELS))
    return [paragraph for paragraph in others if not paragraph.startswith(known)]


def labelled(docstring: str | None, name: str) -> str:
    """Return what a file's docstring says after a word such as "Source:", as one line, or ""."""
    match = re.search(rf"^{name}: +(.*(?:\n +.*)*)", docstring or "", re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def arguments(kind: type[Any]) -> dict[str, str]:
    """Return what the sections "Args:" of a class and its bases say of each parameter, as one line each."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
        found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
        meanings |= {name: " ".join(text.split()) for name, text in found}
    return meanings


def file_docstring(kind: type[Any]) -> str:
    """Return the docstring of the file that defines a method or measure, "" for one of another package."""
    return "" if "/" in kind.name else sys.modules[kind.__module__].__doc__ or ""


def title(kind: type[Any]) -> str:
    """Return what a method or measure is, as a sentence: its file's first line, or its own if the file has several."""
    named = [
        other
        for other in vars(sys.modules[kind.__module__]).values()
        if isinstance(other, type) and other.__module__ == kind.__module__ and isinstance(vars(other).get("name"), str)
    ]
    return (meaning(file_docstring(kind)) if named == [kind] else "") or first_line(kind.__doc__)
