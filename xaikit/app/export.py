"""A page without a server: chosen pictures and methods with their curves, the threshold alive in the browser.

session with its results -> one picture's content -> page.html, one file that opens anywhere
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any, get_args

from jinja2 import Environment

from xaikit.app import drawing
from xaikit.app.facts import CONTROLS, facts
from xaikit.app.look import Look
from xaikit.app.session import Failure, Session
from xaikit.app.view import Display, overlays, scale_of, threshold, tile
from xaikit.foundation.errors import BadInput
from xaikit.measures.removal.protocol import Mask

_SECONDS = 24 * 3600.0


def picture_of(session: Session, display: Display) -> dict[str, Any]:
    """Return the content of one picture, with the maps and curves that the session has of it."""
    columns = []
    for model in session.choice.models:
        seen, drawn = session.look(model), overlays(session, model, display)
        if not isinstance(seen, Look) or not drawn:
            continue
        base, notes = drawing.base(seen)
        columns.append(
            {
                "model": model,
                "picture": drawing.jpeg(base),
                "notes": notes,
                "share": seen.classifier.output != "regression",
                "classes": [{"label": label, "p": p} for _, label, p in seen.classes],
                "explained": drawn[0][0].target_names[0],
                "tiles": [
                    {
                        "method": attribution.method,
                        "control": attribution.method in CONTROLS,
                        "overlay": drawing.jpeg(shown.picture),
                        "scale": scale_of(shown),
                        **tile(attribution),
                    }
                    for attribution, shown in drawn
                ],
                "viewer": threshold(session, model),
            }
        )
    return {"name": session.shelf.get(session.choice.picture).name, "columns": columns}


def pictures_of(session: Session, pictures: Iterable[str], display: Display) -> list[dict[str, Any]]:
    """Explain pictures one after the other, measure both kinds of masks, and return their contents.

    Raises:
        BadInput: a picture or a network cannot be used; the message says why.
    """
    contents = []
    for picture in pictures:
        for mask in get_args(Mask):
            session.choose(picture=picture, mask=mask)
            session.settle(_SECONDS)
        for model in session.choice.models:
            if isinstance(failed := session.look(model), Failure):
                raise BadInput(failed.reason)
        contents.append(picture_of(session, display))
    return contents


def exported(pictures: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of some pictures."""
    methods = {one["method"] for picture in pictures for column in picture["columns"] for one in column["tiles"]}
    content = {"pictures": pictures, "methods": {name: asdict(facts(name)) for name in sorted(methods)}}
    text = json.dumps(content, allow_nan=False).replace("<", "\\u003c")
    page = Environment(autoescape=True).from_string(asset("export.html"))
    return page.render(css=asset("page.css"), code=asset("threshold.js") + asset("export.js"), content=text)


def asset(name: str) -> str:
    """Return a file of the page."""
    return resources.files("xaikit.app").joinpath(name).read_text(encoding="utf-8")
