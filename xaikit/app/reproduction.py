"""The Python lines and the command that make exactly what a tab shows.

Files are named without their folders; whoever runs the lines does so in the pictures' folder.
"""

import shlex
from collections.abc import Sequence

from xaikit.app.models import Offer
from xaikit.app.tasks import LEVELS, CurveTask, MapTask


def python_lines(picture: str, offers: Sequence[tuple[Offer, Sequence[CurveTask]]]) -> str:
    """Return lines that make the maps in `maps` and the curves in `curves`, by model and method.

    Args:
        picture: file name.
        offers: each network with its curves, and so its maps.
    """
    lines = ["import xaikit", "", f"picture = {picture!r}", "maps, curves = {}, {}"]
    for place, (offer, curves) in enumerate(offers):
        name = f"clf{place + 1}" if len(offers) > 1 else "clf"
        load = offer.python or f"classifiers[{place}]  # as it was given to xaikit.app"
        lines += ["", f"{name} = {load}"]
        for curve in curves:
            key = f"[{offer.name!r}, {curve.method!r}]"
            lines.append(f"maps{key} = xaikit.attribute({name}, picture, {_arguments(curve.map)})")
            settings = f"levels={LEVELS}, mask={curve.mask!r}, fill={curve.fill!r}, seed={curve.map.seed}"
            lines.append(f"curves{key} = xaikit.keep_curve({name}, picture, maps{key}, {settings})")
    return "\n".join(lines) + "\n"


def command(picture: str, offer: Offer, maps: Sequence[MapTask]) -> str | None:
    """Return the command that makes the maps of one network; None for a classifier from Python."""
    if not offer.options or not maps:
        return None
    first = maps[0]
    words = ["xaikit", "explain", picture, *offer.options, "--target", str(first.target)]
    words += ["--against", str(first.against)] if first.against is not None else []
    words += ["--layer", layer] if (layer := next((task.layer for task in maps if task.layer), None)) else []
    words += [word for task in maps for word in ("--method", task.method)]
    return shlex.join([*words, "--seed", str(first.seed)])


def _arguments(task: MapTask) -> str:
    target = str(task.target) if task.against is None else f"xaikit.Contrast({task.target}, {task.against})"
    layer = f", layer={task.layer!r}" if task.layer else ""
    return f"target={target}, method={task.method!r}{layer}, seed={task.seed}"
