"""What a tab can be taken away as: a figure, raw values, records, and a page that needs no server.

png           the pictures as they are drawn, a row for each network
npz           raw values under MODEL/METHOD
safetensors   the same
json          results.json, as `xaikit explain` writes it
page          page.html, with the threshold alive
"""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from safetensors.torch import save

from xaikit.app.drawing import base
from xaikit.app.export import exported, picture_of
from xaikit.app.look import Look
from xaikit.app.session import Session
from xaikit.app.tasks import MapTask
from xaikit.app.view import Display, overlays
from xaikit.explaining.run import about, record_of
from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import json_text
from xaikit.images.drawing import Row, Tile, sheet
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context
from xaikit.run.showing import caption

_NONE = "file: expected at least one map, got none yet; wait for the first"


def taken(session: Session, display: Display, kind: str) -> tuple[str, str, bytes]:
    """Return the name, type and content of a file.

    Raises:
        BadInput: there is no such kind, or no map yet.
    """
    if kind not in _KINDS:
        raise BadInput(f"file: expected one of {', '.join(_KINDS)}, got another")
    type_, name, write = _KINDS[kind]
    return name, type_, write(session, display)


def maps_of(session: Session) -> list[tuple[MapTask, Look, Attribution]]:
    """Return the maps that are there, of all networks.

    Raises:
        BadInput: there is none.
    """
    found = []
    for model in session.choice.models:
        seen = session.look(model)
        for task in session.maps(model) if isinstance(seen, Look) else []:
            result = session.result(task)
            if isinstance(result, Attribution) and isinstance(seen, Look):
                found.append((task, seen, result))
    if not found:
        raise BadInput(_NONE)
    return found


def _png(session: Session, display: Display) -> bytes:
    rows = []
    for model in session.choice.models:
        seen, drawn = session.look(model), overlays(session, model, display)
        if isinstance(seen, Look) and drawn:
            tiles = [Tile("input", base(seen)[0], None), *(tile for _, tile in drawn)]
            rows.append(Row(f"{model}: {caption(drawn[0][0], 0)}", tiles))
    if not rows:
        raise BadInput(_NONE)
    stream = BytesIO()
    sheet(rows).savefig(stream, format="png")
    return stream.getvalue()


def _npz(session: Session, display: Display) -> bytes:
    stream = BytesIO()
    arrays: dict[str, Any] = {_name(task): result.values[0].cpu().numpy() for task, _, result in maps_of(session)}
    np.savez(stream, **arrays)
    return stream.getvalue()


def _safetensors(session: Session, display: Display) -> bytes:
    content: bytes = save({_name(task): result.values[0].cpu().contiguous() for task, _, result in maps_of(session)})
    return content


def _json(session: Session, display: Display) -> bytes:
    name, records, runs = session.shelf.get(session.choice.picture).name, [], []
    for model in session.choice.models:
        found = [(task, seen, result) for task, seen, result in maps_of(session) if task.look.model == model]
        for task, seen, result in found:
            frame = seen.pictures.frames[0]
            assert frame is not None
            record = record_of(seen.classifier, result, name, seen.content, frame)
            records.append(record | {"outputs": {"values": _name(task)}})
        if found:
            methods = [task.bound(seen) for task, seen, _ in found]
            runs.append(about(methods, found[0][0].explained, Context(seed=session.choice.seed), "xaikit app"))
    return json_text({"run": runs[0] if len(runs) == 1 else {"runs": runs}, "records": records}).encode()


def _page(session: Session, display: Display) -> bytes:
    return exported([picture_of(session, display)]).encode()


def _name(task: MapTask) -> str:
    return f"{task.look.model}/{task.method}"


_KINDS: dict[str, tuple[str, str, Callable[[Session, Display], bytes]]] = {
    "png": ("image/png", "xaikit.png", _png),
    "npz": ("application/octet-stream", "attributions.npz", _npz),
    "safetensors": ("application/octet-stream", "attributions.safetensors", _safetensors),
    "json": ("application/json", "results.json", _json),
    "page": ("text/html", "page.html", _page),
}
