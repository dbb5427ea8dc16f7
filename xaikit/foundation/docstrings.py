"""Parts of a docstring: of a class its first line, of a file with methods or measures also what follows it.

Grad-CAM: activation maps weighted by their mean gradient.     -> meaning, "Activation maps weighted by ..."
map = relu(sum_k mean_xy(d score / d A_k) * A_k)           -> formula, the first indented block
In words: The gradient of the class score is ...           -> in_words, "The gradient of the class score is ..."
"""

import textwrap

_IN_WORDS = "In words: "


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
