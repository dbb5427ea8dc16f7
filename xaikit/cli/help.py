"""`xaikit help NAME`: explains a method or a measure in words, with its formula, parameters, cost and source."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xaikit.cli.lines import aside, say
from xaikit.cli.options import Plugins
from xaikit.foundation.docstrings import arguments, file_docstring, formula, in_words, labelled, notes, title

if TYPE_CHECKING:
    from xaikit.foundation.registry import Registry

_WIDTH = 80
_NEEDS = {
    "activations": "the activations of a layer",
    "attention": "attention of all tokens to each other",
    "gradients": "the activations and gradients of a layer",
    "input-gradient": "the gradient with respect to the image",
    "probabilities": "probabilities, no regression",
    "library": "reference images; it draws some where none are given",
    "maps": "maps",
    "model": "the network",
    "method": "the method, to make further maps",
    "masks": "masks of the evidence",
}


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method or a measure, in any spelling.")],
    plugin: Plugins = None,
) -> None:
    """Explain a method or a measure: what it does and shows, its formula, parameters, cost and source."""
    from xaikit.foundation.registry import load_plugin

    with aside():
        for file in plugin or []:
            load_plugin(file)
        lines = list(page(_find(name)))
    for line in lines:
        say(line)


def _find(name: str) -> type[Any]:
    """Return the method or measure of a name.

    Raises:
        UnknownName: there is neither a method nor a measure of that name.
    """
    from xaikit.foundation.errors import UnknownName
    from xaikit.measures.base import MEASURES
    from xaikit.methods.base import METHODS

    registries: tuple[Registry[Any], ...] = (METHODS, MEASURES)
    for registry in registries:
        try:
            return registry.get(name)
        except UnknownName:
            continue
    known = [known for registry in registries for known in (*registry.names(), *registry.aliases)]
    raise UnknownName("method or measure", name, known, "`xaikit list methods` and `xaikit list measures` show them")


def page(kind: type[Any]) -> Iterator[str]:
    """Yield the lines on a method or a measure, at most 80 characters each."""
    docstring = file_docstring(kind)
    yield from _wrapped(f"{kind.name}: {title(kind)}")
    if words := in_words(docstring):
        yield ""
        yield from _wrapped(words)
    if written := formula(docstring):
        yield ""
        for line in written.splitlines():
            yield from _broken(line)
    for paragraph in notes(docstring):
        yield ""
        for line in _joined(paragraph):
            yield from _wrapped(line, after=" " * 8 if _is_row(line) else "")
    yield ""
    yield from _parameters(kind)
    yield ""
    facts = _measure_facts(kind) if hasattr(kind, "direction") else _method_facts(kind)
    facts |= {name: labelled(docstring, name) for name in ("Shapes", "Units")}
    facts["Source"] = labelled(docstring, "Source") or kind.source
    facts["Departs from source"] = labelled(docstring, "Departs from source")
    for name, text in facts.items():
        if text:
            yield from _wrapped(f"{name}: {text}", after="    ")


def _method_facts(kind: type[Any]) -> dict[str, str]:
    from xaikit.app.facts import price
    from xaikit.cli.passes import passes

    signed = "signed" if kind.signed else "not signed"
    return {
        "Family": kind.family,
        "Map": f"{signed}, {'specific to the class' if kind.class_specific else 'the same for every class'}",
        "Needs": _needs(kind),
        "Cost": f"{price(passes(kind))} for one image on resnet50",
    }


def _measure_facts(kind: type[Any]) -> dict[str, str]:
    from xaikit.app.facts import price

    measure = kind()
    costs = [(measure.cost(), "for each map"), (measure.image_cost(), "for each image, shared by all its maps")]
    parts = [f"{price(cost)} {of}" for cost, of in costs if cost.forwards or cost.backwards]
    more = measure.explanations()
    parts += [f"{more} further map{'' if more == 1 else 's'} of the method for each map"] if more else []
    return {
        "Better": "neither end" if kind.direction == "none" else kind.direction,
        "Range": f"{kind.range[0]:g} to {kind.range[1]:g}",
        "Needs": _needs(kind),
        "Cost": "; ".join(parts) or "no pass",
    }


def _needs(kind: type[Any]) -> str:
    return "; ".join(_NEEDS.get(need, need) for need in sorted(kind.needs)) or "no layer, no gradient"


def _parameters(kind: type[Any]) -> Iterator[str]:
    """Yield the parameters with their defaults, what they mean and which values they take."""
    meanings, names = arguments(kind), {*kind.parameter_names(), "layer"}
    listed = [field for field in fields(kind) if field.name in names]
    yield "Parameters:" if listed else "Parameters: none"
    for field in listed:
        yield from _wrapped(f"  {field.name} = {_default(field)}", after="      ")
        about = f"{meanings.get(field.name, '').removesuffix('.')} ({kind.expected(field.name)})"
        yield from _wrapped(f"      {about.strip()}", after="      ")


def _default(field: Field[Any]) -> str:
    """Return a parameter's default as `--param` takes it."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return "none" if value is None else json.dumps(value, default=str)


def _joined(paragraph: str) -> list[str]:
    """Return the lines of a paragraph: prose as one line, each row of a table or list as one line."""
    lines: list[str] = []
    for line in paragraph.splitlines():
        continues = line.startswith(" " * 9) or not (_is_row(line) or _is_row(lines[-1] if lines else line))
        if lines and continues:
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    return lines


def _is_row(line: str) -> bool:
    return "  " in line or re.match(r"\d\. ", line) is not None


def _broken(line: str) -> list[str]:
    """Return a line of a formula, indented; a long one is broken at its last wide gap, else anywhere."""
    indented = f"    {line}"
    gap = re.match(rf"(.{{1,{_WIDTH - 1}}}\S) {{4,}}(\S.*)", indented) if len(indented) > _WIDTH else None
    if gap is None:
        return _wrapped(indented, after=" " * 12)
    return [gap[1], *_wrapped(" " * 12 + gap[2], after=" " * 12)]


def _wrapped(text: str, after: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=after, break_on_hyphens=False, break_long_words=False)
