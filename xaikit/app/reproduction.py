"""The Python lines and the command that make exactly what a tab shows.

Files are named without their folders; whoever runs the lines does so in the pictures' folder.
"""

import shlex
from collections.abc import Sequence
from itertools import groupby

from xaikit.app.models import Offer
from xaikit.app.tasks import LEVELS, CurveTask, MapTask


def python_lines(picture: str, offers: Sequence[tuple[Offer, Sequence[CurveTask]]]) -> str:
    """Return lines that make the maps and the curves of each method: `maps` and `curves`, numbered for two networks.

    Args:
        picture: file name.
        offers: each network with its curves, and so its maps.
    """
    lines = ["import xaikit", "", f"picture = {picture!r}"]
    for place, (offer, tasks) in enumerate(offers):
        number = str(place + 1) if len(offers) > 1 else ""
        clf, maps, curves = f"clf{number}", f"maps{number}", f"curves{number}"
        load = offer.python or f"classifiers[{place}]  # as it was given to xaikit.app"
        lines += ["", f"{clf} = {load}", f"{maps}, {curves} = {{}}, {{}}"]
        for explained, group in groupby(tasks, key=lambda task: _arguments(task.map)):
            alike = list(group)
            settings = f"levels={LEVELS}, mask={alike[0].mask!r}, fill={alike[0].fill!r}, seed={alike[0].map.seed}"
            lines += [
                f"for method in {[task.method for task in alike]}:",
                f"    {maps}[method] = xaikit.attribute({clf}, picture, {explained})",
                f"    {curves}[method] = xaikit.keep_curve({clf}, picture, {maps}[method], {settings})",
            ]
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
    return f"target={target}, method=method{layer}, seed={task.seed}"
