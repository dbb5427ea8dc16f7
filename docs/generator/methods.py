"""A page for each method, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, get_args

from docs.generator.agreement import agreement
from docs.generator.entries import cited, details, escaped, own, parameters, table, typeset
from docs.generator.pictures import caption, picture
from docs.generator.results import figures_of
from xaikit.foundation.docstrings import file_docstring, formula, in_words, labelled, title
from xaikit.methods.base import METHODS, Family, LayerMethod, Method
from xaikit.zoo.load import load

_SIZE = (224, 224)
FAMILIES = {
    "activation": "Class activation maps: one layer's channels, weighted and summed. Coarse, and quick.",
    "attention": "For vision transformers: what tokens read of each other. Networks without attention are refused.",
    "gradient": "The derivative of the score with respect to the pixels. Fine, and often noisy.",
    "decomposition": "The score passed back layer by layer, so that shares add up.",
    "perturbation": "The score of changed images. They need nothing but outputs, and many forward passes.",
    "control": "Maps that explain nothing. A measure that favours them measures nothing.",
}


def method_pages() -> dict[str, str | bytes]:
    """Return the pages and their pictures by path."""
    entries = sorted(own(METHODS), key=lambda entry: (_families().index(entry.family), entry.name))
    pages: dict[str, str | bytes] = {"methods/index.md": _index(entries)}
    for entry in entries:
        pages[f"methods/{entry.name}.md"] = _page(entry)
        pages[f"methods/{entry.name}.png"] = picture(entry)
    return pages


@cache
def _classifier() -> Any:
    return load("resnet50", weights="random", device="cpu")


def _families() -> Sequence[str]:
    return get_args(Family)


def _index(entries: Sequence[type[Method]]) -> str:
    lines = [
        "# Methods",
        "",
        "What a method costs is given in passes of resnet50 for one image with default parameters; a backward pass",
        "that ends at the target layer counts as a fraction. *Signed* maps also show evidence against the class. The",
        "[gallery](../gallery.md) shows them on the same picture.",
    ]
    for family in _families():
        members = [entry for entry in entries if entry.family == family]
        if not members:
            continue
        lines += ["", f"## {family.capitalize()}", "", FAMILIES[family], ""]
        lines += table(
            ("method", "what it shows", "forwards", "backwards", "signed", "source"),
            "llrrcl",
            map(_row, members),
        )
    lines += [
        "",
        "The methods of captum, pytorch-grad-cam, torchcam, zennit, shap and lime share the interface under names",
        "such as `captum/saliency` (`pip install 'xaikit[backends]'`); `xaikit list methods --backends` lists them.",
        "",
    ]
    return "\n".join(lines)


def _row(entry: type[Method]) -> list[str]:
    linked = f"[{entry.name}]({entry.name}.md)"
    return [linked, escaped(title(entry)), *_passes(entry), "yes" if entry.signed else "–", cited(entry.source)]


def _page(entry: type[Method]) -> str:
    docstring = file_docstring(entry)
    needs = "a layer" if issubclass(entry, LayerMethod) else "the input alone"
    forwards, backwards = _passes(entry)
    network = "any transformer" if entry.family == "attention" else "resnet50"
    facts = [
        ["family", f"[{entry.family}](index.md#{entry.family})"],
        ["reads", needs + (f"; needs {', '.join(sorted(entry.needs))}" if entry.needs else "")],
        ["cost of one image", f"{forwards} forward and {backwards} backward passes ({network}, 224 px, defaults)"],
        ["signed", "yes: values can be negative" if entry.signed else "no"],
        ["class-specific", "yes" if entry.class_specific else "no: the map is the same whatever class is explained"],
        *[[name.lower(), escaped(text)] for name in ("Shapes", "Units") if (text := labelled(docstring, name))],
    ]
    lines = [f"# {entry.name}", "", f"*{title(entry)}*", "", in_words(docstring), "", typeset(formula(docstring)), ""]
    drawn = f"![Maps of {entry.name} on three drawn pictures]({entry.name}.png)"
    lines += [drawn, "", f"<small>{caption(entry)}</small>", ""]
    python, command = uses(entry.name)
    lines += ["```python", python, "```", "", "```bash", command, "```", ""]
    lines += [
        "`clf` is [your network](../network.md); on the command line it is that of `--model`, by default resnet50.",
        "",
    ]
    lines += ["## Facts", "", *table(("property", "value"), "ll", facts), ""]
    if measured := figures_of(entry.name):
        photographs = " and over 49 photographs on SqueezeNet" if "photographs" in measured[0] else ""
        of = f"Means over 12 drawn pictures on the shipped network of each row{photographs}"
        lines += ["## Figures", "", *measured, "", f"{of}, [explained with all others](../choosing.md#figures).", ""]
    if asked := parameters(entry):
        lines += ["## Parameters", "", *asked, ""]
    if rest := details(entry):
        lines += ["## In detail", "", *(f"{block}\n" for block in rest)]
    if compared := agreement(entry.name):
        lines += ["## Other packages", "", *compared, ""]
    lines += ["## Source", "", cited(labelled(docstring, "Source") or entry.source), ""]
    if departs := labelled(docstring, "Departs from source"):
        lines += [f"**Departs from the source:** {escaped(departs)}", ""]
    lines += [f"Code: `{entry.__module__.replace('.', '/')}.py`", ""]
    return "\n".join(lines)


def uses(method: str) -> tuple[str, str]:
    """Return how a method is used in Python and on the command line."""
    python = f'attribution = xaikit.attribute(clf, "cat.jpg", method="{method}")'
    model = " --model vit_b_16" if METHODS.get(method).family == "attention" else ""
    return python, f"xaikit explain cat.jpg{model} --method {method}"


def _passes(entry: type[Method]) -> list[str]:
    cost = entry(_classifier()).cost(_SIZE)
    return [f"{count:,.4g}" if count else "0" for count in (cost.forwards, cost.backwards)]
