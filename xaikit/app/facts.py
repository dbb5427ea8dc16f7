"""What the page says of a method, from its docstring: a sentence, the formula, where it departs, the reference."""

import inspect
import re
import sys
from dataclasses import dataclass
from functools import cache

from xaikit.methods.base import METHODS, LayerMethod
from xaikit.run.context import duration
from xaikit.run.cost import Cost

CONTROLS = ("random-grid", "edges")
"""Methods that explain nothing, which the page always shows beside the others."""


@dataclass(frozen=True)
class Facts:
    """What the page says of a method.

    Args:
        name: registry name.
        family: the family of methods it belongs to.
        sentence: what it is, in one sentence.
        formula: the indented lines that define it.
        text: the rest of its docstring.
        reference: the publication.
        layered: whether it reads a layer.
    """

    name: str
    family: str
    sentence: str
    formula: str
    text: str
    reference: str
    layered: bool


@cache
def facts(name: str) -> Facts:
    """Return what the docstring of a method's module says."""
    kind = METHODS.get(name)
    module = sys.modules[kind.__module__]
    blocks = re.split(r"\n[ \t]*\n", inspect.cleandoc(module.__doc__ or kind.__doc__ or name))
    sentence, *others = [block for block in blocks if block.strip()] or [name]
    formulas = [block for block in others if _is_indented(block)]
    rest = [block for block in others if not _is_indented(block)]
    return Facts(
        kind.name,
        kind.family,
        " ".join(sentence.split()),
        inspect.cleandoc("\n" + formulas[0]) if formulas else "",
        "\n\n".join(rest),
        kind.source,
        issubclass(kind, LayerMethod),
    )


def offered_methods() -> list[str]:
    """Return the names of xaikit's own methods, by family as the README lists them."""
    order = ("activation", "gradient", "decomposition", "perturbation", "control")
    names = METHODS.names(lambda kind: kind.family in order)
    return sorted(names, key=lambda name: (order.index(METHODS.get(name).family), name))


def price(cost: Cost, seconds: float | None = None) -> str:
    """Return a cost in words: "1 forward", "2,000 forwards, about 40 s".

    Args:
        cost: passes for one image.
        seconds: time of one forward; None leaves out the estimate.
    """
    counts = ((cost.forwards, "forward"), (cost.backwards, "backward"))
    words = [
        f"{number:,.4g} {word}{'' if number == 1 else 's'}" if number < 1e4 else f"{number:,.0f} {word}s"
        for number, word in counts
        if number
    ]
    needed = weight(cost) * (seconds or 0.0)
    return " + ".join(words or ["no pass"]) + (f", about {duration(needed)}" if needed >= 1 else "")


def weight(cost: Cost) -> float:
    """Return a cost in forwards; a backward takes about two."""
    return cost.forwards + 2 * cost.backwards


def _is_indented(block: str) -> bool:
    return all(line.startswith("    ") or not line.strip() for line in block.splitlines())
