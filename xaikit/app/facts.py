"""What the page says of a method, from its docstring: a sentence, the formula, where it departs, the reference."""

from dataclasses import dataclass
from functools import cache

from xaikit.foundation.docstrings import file_docstring, formula, in_words, labelled, title
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
        words: the formula in words.
        departs: where it departs from its reference.
        reference: the publication.
        layered: whether it reads a layer.
    """

    name: str
    family: str
    sentence: str
    formula: str
    words: str
    departs: str
    reference: str
    layered: bool


@cache
def facts(name: str) -> Facts:
    """Return what the docstring of a method's file says."""
    kind = METHODS.get(name)
    text = file_docstring(kind)
    departs = labelled(text, "Departs from source")
    layered = issubclass(kind, LayerMethod)
    return Facts(kind.name, kind.family, title(kind), formula(text), in_words(text), departs, kind.source, layered)


def offered_methods() -> list[str]:
    """Return the names of xaikit's own methods, by family as the README lists them."""
    order = ("activation", "attention", "gradient", "decomposition", "perturbation", "control")
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
