"""Attributions as figures and pictures: rows of images, one column a method.

    plot(attribution)       input and overlay of each image
    plot(many)              several methods side by side

A map is drawn round zero in blue and red if its method is signed; otherwise its lowest value is the dark end of the
colour map and its highest the light one, of each image or, with scale="shared", of all images of the method.

An image that was read from a picture is shown as that picture, with the map where the network saw it and the rest
dimmed, or, with view="crop", as the network saw it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import output_directory
from xaikit.foundation.flags import described
from xaikit.images.drawing import SIGNED_BAR, Bar, Row, Sheet, Tile, marked, placed, sheet
from xaikit.images.overlays import HEAT, Floats, Picture, coloured, overlay, signed_overlay, strongest
from xaikit.images.placing import Frame, frame_notes
from xaikit.images.reading import save_png, to_picture
from xaikit.images.shapes import upsample

if TYPE_CHECKING:
    from xaikit.run.attribution import Attribution, View

Scale = Literal["image", "shared"]
_COLUMNS, _WIDEST = 5, 10  # largest number of pictures side by side, of one image and of several
_ROWS = 8  # largest number of images in a figure unless more are asked for


def plot(
    attributions: Attribution | Mapping[str, Attribution] | Sequence[Attribution],
    *,
    scale: Scale = "image",
    cmap: str | None = None,
    limit: int = _ROWS,
    view: View = "original",
) -> Sheet:
    """Return a figure with one row for each image and one column for each method.

    Args:
        attributions: one attribution, or several of the same images: a mapping from titles, as `attribute_many`
            returns, or a sequence.
        scale: "image" scales each map on its own, "shared" all images of a method alike.
        cmap: matplotlib's colour map, such as "jet"; None is inferno, and blue and red for signed maps. A signed map
            takes it as diverging.
        limit: largest number of images; a note says how many are left out.
        view: "original" shows the whole pictures where they are known, "crop" what the network saw.

    Raises:
        BadInput: attributions of different images, none, or an invalid argument.
        UnknownName: there is no such colour map.
    """
    columns = _columns(attributions)
    if scale not in ("image", "shared"):
        raise BadInput(f"scale: expected image or shared, got {scale!r}")
    if view not in ("original", "crop"):
        raise BadInput(f"view: expected original or crop, got {view!r}")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise BadInput(f"limit: expected a whole number from 1, got {limit!r}")
    first = next(iter(columns.values()))
    shown = range(min(len(first), limit))
    tiles = {title: _tiles(column[: len(shown)], title, scale, cmap, view) for title, column in columns.items()}
    rows = []
    for index in shown:
        picture, frame = _picture(first, index, view)
        own = [] if picture is None else [Tile("input", marked(picture, frame), None)]
        rows.append(Row(caption(first, index), [*own, *(column[index] for column in tiles.values())]))
    more = [f"and {len(first) - len(shown)} more images, which limit= leaves out"] if len(first) > len(shown) else []
    together = len(columns) + 1 if len(rows) > 1 else _COLUMNS
    frames = [frame for index in shown if (frame := _picture(first, index, view)[1])]
    return sheet(rows, [*more, *frame_notes(frames), *flag_notes(columns)], min(together, _WIDEST))


def caption(attribution: Attribution, index: int) -> str:
    """Return what is explained with its probability, and the network's own answer if it is another class."""
    text = f"{_name(attribution, index)} · {_share(attribution, index)}"
    if not attribution.answers:
        return text
    answer = attribution.answers[index]
    if answer.probability is None or answer.label == int(attribution.target[index]):
        return text
    return f"{text} (the network's answer: {answer.name} · {_number(answer.probability)})"


def flag_notes(columns: Mapping[str, Attribution]) -> list[str]:
    """Return one line for each flag: the methods that have it, for how many images, and what it means."""
    counts: dict[str, Counter[str]] = {}
    for title, attribution in columns.items():
        for flag, count in Counter(flag for flags in attribution.flags for flag in flags).items():
            counts.setdefault(flag, Counter())[title] += count
    several = any(len(attribution) > 1 for attribution in columns.values())
    total = max(map(len, columns.values()))
    return [
        f"{', '.join(f'{title} ({count} of {total})' if several else title for title, count in by.items())}: "
        f"{described(flag)}"
        for flag, by in sorted(counts.items())
    ]


def overlay_of(attribution: Attribution, index: int, cmap: str | None, view: View = "original") -> Image.Image:
    """Return the overlay of one image as a picture; without its image, the heatmap in colours."""
    if view not in ("original", "crop"):
        raise BadInput(f"view: expected original or crop, got {view!r}")
    return Image.fromarray(_tiles(attribution[index], attribution.method, "image", cmap, view)[0].picture)


def save_images(attribution: Attribution, folder: str | Path, cmap: str | None, view: View = "original") -> list[Path]:
    """Write INDEX.METHOD.heatmap.png and INDEX.METHOD.overlay.png for each image, and return the paths."""
    root = output_directory(folder)
    name = attribution.method.replace("/", "-")
    paths = []
    for index, heatmap in enumerate(attribution.numpy()):
        pictures = {
            "heatmap": coloured(heatmap, cmap or HEAT),
            "overlay": np.asarray(overlay_of(attribution, index, cmap, view)),
        }
        for kind, picture in pictures.items():
            paths.append(root / f"{index}.{name}.{kind}.png")
            save_png(paths[-1], picture)
    return paths


def summary(attribution: Attribution) -> str:
    """Return one line: the model, the method, what is explained with its probability, and the flags."""
    layer = f" at {attribution.layer}" if attribution.layer else ""
    count = len(attribution)
    shown = [f"{_name(attribution, index)} {_share(attribution, index)}" for index in range(min(3, count))]
    images = f"{count} image{'' if count == 1 else 's'}"
    classes = f": {', '.join(shown)}{', ...' if count > len(shown) else ''}" if shown else ""
    flags = sorted({flag for names in attribution.flags for flag in names})
    parts = [f"{attribution.method}{layer}", f"{images}{classes}", *([f"flags {', '.join(flags)}"] if flags else [])]
    return " ".join(f"Attribution({'; '.join(filter(None, [attribution.model, *parts]))})".split())


def html(attribution: Attribution) -> str:
    """Return the figure of an attribution with its facts, for a notebook."""
    if not len(attribution):
        return f"<p>{escape(summary(attribution))}</p>"
    return plot(attribution).html(summary(attribution))


def _columns(attributions: Any) -> dict[str, Attribution]:
    """Return attributions of the same images by title."""
    from xaikit.run.attribution import Attribution

    if isinstance(attributions, Attribution):
        attributions = {attributions.method: attributions}
    if not isinstance(attributions, Mapping):
        entries = list(attributions) if isinstance(attributions, Sequence) else [attributions]
        names = [entry.method if isinstance(entry, Attribution) else "" for entry in entries]
        taken = [f" {names[:place].count(name) + 1}" * (names.count(name) > 1) for place, name in enumerate(names)]
        titles = [name + number for name, number in zip(names, taken, strict=True)]
        attributions = dict(zip(titles, entries, strict=True))
    columns = {str(title): entry for title, entry in attributions.items()}
    if not columns or not all(isinstance(entry, Attribution) for entry in columns.values()):
        got = sorted({type(entry).__name__ for entry in columns.values()})
        raise BadInput(f"plot: expected attributions, got {', '.join(got) or 'none'}; attribute returns one")
    shapes = sorted({(len(entry), *entry.size) for entry in columns.values()})
    if len(shapes) > 1:
        raise BadInput(f"plot: expected attributions of the same images, got (N, H, W) of {shapes[0]} and {shapes[1]}")
    if not shapes[0][0]:
        raise BadInput("plot: expected attributions of at least one image, got none")
    return columns


def _tiles(attribution: Attribution, title: str, scale: Scale, cmap: str | None, view: View) -> list[Tile]:
    """Return the overlay of each image."""
    maps = drawn_maps(attribution)
    groups = [maps if scale == "shared" else maps[index : index + 1] for index in range(len(maps))]
    return [
        tile(attribution, index, title, maps[index], ends(attribution, group), cmap, view)
        for index, group in enumerate(groups)
    ]


def tile(
    attribution: Attribution,
    index: int,
    title: str,
    values: Floats,
    between: tuple[float, float],
    cmap: str | None,
    view: View,
) -> Tile:
    """Return the overlay of one image.

    Args:
        attribution: the attribution.
        index: the image.
        title: text above the picture.
        values: the image's map of `drawn_maps`.
        between: the values at the ends of the colours, as `ends` gives them.
        cmap: colour map, as in `plot`.
        view: what is shown, as in `plot`.
    """
    low, high = between
    picture, frame = _picture(attribution, index, view)
    if is_diverging(attribution):
        white = np.full((*values.shape, 3), 255, np.uint8)
        drawn = signed_overlay(white if picture is None else picture, placed(values, frame), cmap, high)
        bar = SIGNED_BAR._replace(cmap=cmap, low=f"against, {low:.2g}", high=f"for, {high:.2g}")
    else:
        heat = (values - low) / (high - low) if high > low else np.full_like(values, float(high > 0))
        drawn = coloured(heat, cmap or HEAT) if picture is None else overlay(picture, placed(heat, frame), cmap or HEAT)
        bar = Bar(cmap or HEAT, f"{low:.2g}", f"{high:.2g}")
    return Tile(title, marked(drawn, frame), bar)


def is_diverging(attribution: Attribution) -> bool:
    """Return whether the maps are drawn round zero."""
    return attribution.signed and attribution.scale == "minmax"


def drawn_maps(attribution: Attribution) -> Floats:
    """Return the maps (N, H, W) at the images' size, in their own unit; a map that is not finite is zero."""
    maps = upsample(attribution.maps.detach().cpu().double(), attribution.size).numpy()
    finite = np.isfinite(maps).all((1, 2), keepdims=True)
    return np.where(finite, maps, 0.0)


def ends(attribution: Attribution, maps: Floats) -> tuple[float, float]:
    """Return the values at the ends of the colours: of pixel maps, the highest half percent is the light end."""
    if is_diverging(attribution):
        top = strongest(maps)
        return -top, top
    if attribution.scale == "unit":
        return 0.0, 1.0
    low, high = float(maps.min()), float(maps.max())
    if tuple(attribution.values.shape[-2:]) == attribution.size:
        high = low + strongest(maps - low)
    return low, high


def _picture(attribution: Attribution, index: int, view: View) -> tuple[Picture | None, Frame | None]:
    """Return the picture of an image as it is shown, and where its map lies in it; None is the whole."""
    if view == "original" and attribution.originals and attribution.frames:
        original, frame = attribution.originals[index], attribution.frames[index]
        if original is not None and frame is not None:
            return original, frame.scaled((original.shape[0], original.shape[1]))
    return None if attribution.images is None else to_picture(attribution.images[index]), None


def _name(attribution: Attribution, index: int) -> str:
    return attribution.target_names[index] if attribution.target_names else f"class {int(attribution.target[index])}"


def _share(attribution: Attribution, index: int) -> str:
    """Return the probability of what is explained, if it has one: a callable and a regression have a score."""
    regression = bool(attribution.answers) and attribution.answers[index].probability is None
    if regression or int(attribution.target[index]) < 0:
        return f"{float(attribution.scores[index]):.3g}"
    return _number(float(attribution.probabilities[index]))


def _number(probability: float) -> str:
    return f"{100 * probability:.1f} %"
