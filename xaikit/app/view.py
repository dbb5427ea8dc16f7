"""What a tab shows, as plain values for the page and for the static export.

    session -> sections: strip, controls, code, and for each network its answer, tiles and threshold

Everything that is text stays text: the page writes it with `textContent`. A section that did not change is not sent
again.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from torch import Tensor

from xaikit.app import drawing
from xaikit.app.facts import CONTROLS, facts, offered_methods, price
from xaikit.app.look import Look
from xaikit.app.reproduction import command, python_lines
from xaikit.app.session import Failure, Session
from xaikit.app.tasks import LEVELS, CurveTask, MapTask
from xaikit.foundation.flags import described
from xaikit.images.drawing import Tile
from xaikit.images.fills import Fill
from xaikit.images.overlays import HEAT
from xaikit.measures.removal.curve import KeepCurve
from xaikit.measures.removal.protocol import Mask
from xaikit.run.attribution import Attribution
from xaikit.run.cost import Cost
from xaikit.run.showing import is_diverging

COLOUR_MAPS = (HEAT, "viridis", "cividis", "jet", "gray")


@dataclass(frozen=True)
class Display:
    """How maps are drawn.

    Args:
        cmap: colour map of maps that are not drawn round zero.
        shared: whether the maps of a network have one scale.
        place: (across, down) of the pixel whose values are shown, as shares of the picture; None shows none.
    """

    cmap: str = HEAT
    shared: bool = False
    place: tuple[float, float] | None = None


def view(session: Session, display: Display) -> dict[str, Any]:
    """Return what a tab shows, by section.

    Args:
        session: its choice and results.
        display: how maps are drawn.
    """
    choice = session.choice
    picture = session.shelf.get(choice.picture)
    first = session.look(choice.models[0])
    sections: dict[str, Any] = {
        "strip": {
            "pictures": [{"id": one.id, "name": one.name} for one in session.shelf.pictures()],
            "picture": choice.picture,
        },
        "controls": {
            "offers": session.models.names,
            "models": list(choice.models),
            "methods": [_method(name, choice.methods, first) for name in offered_methods()],
            "mask": choice.mask,
            "fill": choice.fill,
            "fills": list(get_args(Fill)),
            "seed": choice.seed,
            "cmap": display.cmap,
            "shared": display.shared,
            "cmaps": list(COLOUR_MAPS),
        },
        "code": _code(session, picture.name),
        "columns": list(choice.models),
    }
    for place, model in enumerate(choice.models):
        sections |= _column(session, place, model, picture.name, display)
    return sections


def labels(session: Session, model: str) -> list[str]:
    """Return the labels of a network that has looked at the picture."""
    seen = session.look(model)
    return seen.labels if isinstance(seen, Look) else []


def _viewer(
    look: Look, maps: Sequence[tuple[Attribution, str, Sequence[KeepCurve]]], fill: Fill, seed: int
) -> dict[str, Any]:
    """Return what the threshold needs in the browser: the crop, its fill, maps, and curves by mask.

    Args:
        look: network and picture.
        maps: each map with its `drawing.level_map`, and its curves of different masks.
        fill: value of removed pixels.
        seed: of a noise fill.
    """
    return {
        "levels": LEVELS,
        "size": look.size,
        "crop": drawing.png(drawing.crop(look)),
        "fill": drawing.png(drawing.filled(look, fill, seed)),
        "methods": [
            {
                "method": attribution.method,
                "control": attribution.method in CONTROLS,
                "map": levels,
                "curves": {curve.protocol.mask: _curve(curve) for curve in curves},
            }
            for attribution, levels, curves in maps
        ],
    }


def tile(attribution: Attribution) -> dict[str, Any]:
    """Return what is said of a map: seconds, flags in words, completeness."""
    gap = attribution.completeness
    return {
        "seconds": attribution.seconds,
        "flags": [described(flag) for flag in sorted(attribution.flags[0])],
        "completeness": None if gap is None else _number(float(gap[0])),
        "layer": attribution.layer,
    }


def _curve(curve: KeepCurve) -> dict[str, Any]:
    measures = {"api": curve.gains(), "apd": curve.drops(), "ir": curve.ups(), "dr": curve.downs()}
    return {
        "y": _number(float(curve.y[0])),
        "floor": _number(float(curve.floor[0])),
        "o": _numbers(curve.o[0]),
        **{name: _numbers(values[0]) for name, values in measures.items()},
    }


def _column(session: Session, place: int, model: str, name: str, display: Display) -> dict[str, Any]:
    """Return the sections of one network."""
    seen, key = session.look(model), f"column{place}"
    if not isinstance(seen, Look):
        reason = seen.reason if isinstance(seen, Failure) else None
        return {key: {"model": model, "state": "failed" if reason else "loading", "reason": reason}}
    tasks = session.maps(model)
    explained, drawn = tasks[0], session.drawn(tasks[0].look)
    layer = session.choice.layer if session.choice.layer in seen.grids else seen.layer
    if "base" not in drawn:
        base, notes = drawing.base(seen)
        drawn["base"] = {"picture": drawing.jpeg(base), "notes": notes}
        drawn["grids"] = {name: drawing.png(drawing.grid_thumbnail(grid)) for name, grid in seen.grids.items()}
    about = {
        "model": model,
        "state": "ready",
        "name": name,
        **drawn["base"],
        "share": seen.classifier.output != "regression",
        "classes": [{"index": index, "label": label, "p": p} for index, label, p in seen.classes],
        "target": {"index": explained.target, "label": seen.label(explained.target)},
        "against": None
        if explained.against is None
        else {"index": explained.against, "label": seen.label(explained.against)},
        "own": int(seen.answers.argmax()),
        "place": display.place,
        "layers": [
            {"name": name, "picture": drawn["grids"][name], "automatic": name == seen.layer, "chosen": name == layer}
            for name in seen.grids
        ],
        "tiles": [task.method for task in tasks],
    }
    tiles = {f"{key}.{task.method}": _tile(session, seen, task, tasks, display) for task in tasks}
    return {key: about, **tiles, f"{key}.viewer": threshold(session, model)}


def _tile(session: Session, seen: Look, task: MapTask, tasks: Sequence[MapTask], display: Display) -> dict[str, Any]:
    result, running, cost = session.result(task), session.running, seen.costs[task.method]
    shown: dict[str, Any] = {"method": task.method, "control": task.method in CONTROLS, "state": "waiting"}
    shown["cost"] = price(cost, seen.seconds) if isinstance(cost, Cost) else cost
    if isinstance(result, Attribution):
        drawn = session.drawn(task)
        key = (display.cmap, _limits(session, task, tasks, shared=display.shared))
        if drawn.get("overlay of") != key:
            shown_map = drawing.overlay(seen, result, *key)
            drawn |= {"overlay of": key, "overlay": drawing.jpeg(shown_map.picture), "scale": scale_of(shown_map)}
        shown |= {"state": "done", "overlay": drawn["overlay"], "scale": drawn["scale"], **tile(result)}
        if display.place is not None:
            value = drawing.values_at(seen, result, *display.place)
            shown["value"] = "not seen" if value is None else f"{value:.3g}"
    elif isinstance(result, Failure):
        shown |= {"state": "cancelled" if result.cancelled else "failed", "reason": result.reason}
    elif running is not None and running.task == task:
        shown |= {"state": "running", "done": math.floor(running.done), "total": max(1, math.ceil(running.total))}
    curve = session.result(CurveTask(task, session.choice.mask, session.choice.fill))
    if isinstance(curve, Failure):
        shown["curve"] = curve.reason
    return shown


def overlays(session: Session, model: str, display: Display) -> list[tuple[Attribution, Tile]]:
    """Return the maps of a network that are there, as they are drawn."""
    seen, tasks = session.look(model), session.maps(model)
    found = [(task, session.result(task)) for task in tasks]
    return [
        (result, drawing.overlay(seen, result, display.cmap, _limits(session, task, tasks, shared=display.shared)))
        for task, result in found
        if isinstance(result, Attribution) and isinstance(seen, Look)
    ]


def scale_of(drawn: Tile) -> str:
    """Return what the ends of a map's colours mean, in words."""
    assert drawn.bar is not None
    return f"{drawn.bar.low} to {drawn.bar.high}"


def _limits(session: Session, task: MapTask, tasks: Sequence[MapTask], *, shared: bool) -> tuple[float, float]:
    """Return the values at the ends of a map's colours; shared by all maps of its network that are drawn alike."""
    results = {other: session.result(other) for other in (tasks if shared else [task])}
    maps = {other: result for other, result in results.items() if isinstance(result, Attribution)}
    alike = []
    for other, result in maps.items():
        drawn = session.drawn(other)
        if "limits" not in drawn:
            drawn["limits"] = drawing.limits(result)
        if is_diverging(result) == is_diverging(maps[task]):
            alike.append(drawn["limits"])
    return min(low for low, _ in alike), max(high for _, high in alike)


def threshold(session: Session, model: str) -> dict[str, Any] | None:
    """Return what the threshold of a network needs: its maps, and the curves of the chosen fill that are there."""
    choice, seen = session.choice, session.look(model)
    maps: list[tuple[Attribution, str, Sequence[KeepCurve]]] = []
    for task in session.maps(model):
        attribution, drawn = session.result(task), session.drawn(task)
        if isinstance(attribution, Attribution):
            if "levels" not in drawn:
                drawn["levels"] = drawing.png(drawing.level_map(attribution))
            curves = [session.result(CurveTask(task, mask, choice.fill)) for mask in get_args(Mask)]
            maps.append((attribution, drawn["levels"], [one for one in curves if isinstance(one, KeepCurve)]))
    return _viewer(seen, maps, choice.fill, choice.seed) if maps and isinstance(seen, Look) else None


def _method(name: str, chosen: Sequence[str], look: Any) -> dict[str, Any]:
    about = facts(name)
    cost = look.costs[name] if isinstance(look, Look) else None
    return {
        **asdict(about),
        "always": name in CONTROLS,
        "chosen": name in chosen,
        "cost": price(cost, look.seconds) if isinstance(cost, Cost) else cost,
    }


def _code(session: Session, picture: str) -> dict[str, Any]:
    offers = []
    commands = []
    for model in session.choice.models:
        offer, maps = session.models.offer(model), session.maps(model)
        offers.append((offer, [CurveTask(task, session.choice.mask, session.choice.fill) for task in maps]))
        commands.append(command(picture, offer, maps))
    return {"python": python_lines(picture, offers), "commands": [text for text in commands if text]}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values.tolist()]
