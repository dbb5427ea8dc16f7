"""Heatmaps as pictures: one overlay per map, one panel per image.

    overlay         inferno over the partly desaturated photograph; low values show the photograph
    signed_overlay  blue (against) and red (for) over the faded photograph; zero shows the photograph
    panel           input and overlays side by side, each with its title and colour bar

Both colour scales are readable in print and with any colour vision: lightness increases with the value in inferno, and
blue and red remain distinguishable.

Shapes: picture (H, W, 3) uint8; heatmap (H, W) in [0, 1]; values (H, W) of any range; every result (H, W, 3) uint8.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xaikit.images.lettering import draw_text, line_height

Picture = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Scale = Literal["heat", "signed"]

_OUTLIERS = 0.995  # quantile of a pixel map that is shown in the strongest colour
_AGAINST, _FOR = (33.0, 102.0, 172.0), (178.0, 24.0, 43.0)
_INK, _FAINT = (32, 32, 32), (120, 120, 120)

_SMALLEST, _LARGEST = 224, 448  # long side of a tile
_COLUMNS = 5
_MARGIN, _GAP, _BAR = 14, 12, 5
_CAPTION, _TITLE, _MARK = 20, 15, 11


class Map(NamedTuple):
    """One method's map of one image.

    Args:
        method: name of the method.
        heatmap: (H, W) in [0, 1].
        values: (H, W) raw values of a pixel-level method, whose sign or rare peaks matter; else None.
        signed: whether positive values speak for the class and negative values against it.
    """

    method: str
    heatmap: Floats
    values: Floats | None = None
    signed: bool = False


class Tile(NamedTuple):
    """One picture in a panel.

    Args:
        title: text above the picture.
        picture: (H, W, 3) uint8.
        scale: colour bar below the picture; None for no bar.
    """

    title: str
    picture: Picture
    scale: Scale | None = "heat"


class Pictures(NamedTuple):
    """The pictures of one image.

    Args:
        panel: input and overlays side by side, (H, W, 3) uint8.
        overlays: the overlay of each method, by name.
    """

    panel: Picture
    overlays: dict[str, Picture]


def illustrate(
    picture: Picture, maps: Sequence[tuple[str, Floats, Floats | None, bool]], caption: str, title: str = "input"
) -> Pictures:
    """Draw one image with the maps of several methods.

    Args:
        picture: the network's input, (H, W, 3) uint8.
        maps: the fields of one `Map` per method.
        caption: text above the panel, such as the class and its probability.
        title: text above the input.
    """
    tiles = [map_tile(picture, Map(*fields)) for fields in maps]
    return Pictures(panel(picture, tiles, caption, title), {tile.title: tile.picture for tile in tiles})


def overlay(picture: Picture, heatmap: Floats) -> Picture:
    """Return the picture with a heatmap over it, at the picture's size."""
    heat = _sized(np.clip(np.nan_to_num(heatmap), 0.0, 1.0), picture)
    alpha = 0.75 * np.clip(1.6 * heat, 0.0, 1.0)[..., None] ** 0.9
    base = 0.3 * picture + 0.7 * _grey(picture)
    base *= 0.85 + 0.15 * heat[..., None]
    return _blended(base, _inferno(heat), alpha)


def signed_overlay(picture: Picture, values: Floats) -> Picture:
    """Return the faded picture with blue where values are negative and red where they are positive.

    The strongest half percent of the values has the full colour, so that a single peak does not fade all other pixels.
    """
    strength = _sized(np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0), picture)
    strength = np.sign(strength) * saturated(np.abs(strength))
    colour = np.where(strength[..., None] < 0, _AGAINST, _FOR)
    return _blended(0.3 * _grey(picture) + 0.7 * 255.0, colour, np.abs(strength)[..., None] ** 0.7)


def paled(picture: Picture, kept: NDArray[np.bool_]) -> Picture:
    """Return the picture with all pixels outside `kept` (H, W) faded."""
    return np.where(kept[..., None], picture, (0.15 * picture + 0.85 * 255).astype(np.uint8))


def saturated(heatmap: Floats) -> Floats:
    """Return a map >= 0 scaled to [0, 1] so that its highest half percent is 1, because pixel maps have rare peaks."""
    top = float(np.quantile(heatmap, _OUTLIERS)) or float(np.max(heatmap, initial=0.0))
    return np.clip(heatmap / top, 0.0, 1.0) if top > 0 else np.zeros_like(heatmap)


def panel(
    picture: Picture, tiles: Sequence[Tile | tuple[str, Picture]], caption: str = "", title: str = "input"
) -> Picture:
    """Return the input and all tiles side by side, in rows of at most five.

    Args:
        picture: the input, (H, W, 3) uint8.
        tiles: (title, overlay) pairs, or `Tile` to choose the colour bar; pictures have the input's shape.
        caption: line of text above the panel, shortened if it does not fit.
        title: text above the input.
    """
    shown = [Tile(title, picture, None), *(Tile(*tile) for tile in tiles)]
    width, height = _tile_size(picture)
    rows = math.ceil(len(shown) / _COLUMNS)
    columns = math.ceil(len(shown) / rows)
    top = _MARGIN + (line_height(_CAPTION) + _GAP if caption else 0)
    step = (width + _GAP, line_height(_TITLE) + height + _BAR + 4 + line_height(_MARK) + _GAP)
    size = (2 * _MARGIN + columns * step[0] - _GAP, top + rows * step[1] - _GAP + _MARGIN)
    page = Image.new("RGB", size, "white")
    if caption:
        draw_text(page, (_MARGIN, _MARGIN), caption, _CAPTION, _INK, size[0] - 2 * _MARGIN)
    for index, tile in enumerate(shown):
        corner = (_MARGIN + index % columns * step[0], top + index // columns * step[1])
        _draw_tile(page, tile, corner, (width, height))
    return np.asarray(page)


def map_tile(picture: Picture, entry: Map) -> Tile:
    """Return a map as an overlay: signed values in blue and red, all others in inferno."""
    if entry.values is not None and entry.signed:
        return Tile(entry.method, signed_overlay(picture, entry.values), "signed")
    return Tile(entry.method, overlay(picture, entry.heatmap if entry.values is None else saturated(entry.heatmap)))


def _draw_tile(page: Image.Image, tile: Tile, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """Draw a tile's title, picture and colour bar on the page."""
    x, y = corner
    draw_text(page, corner, tile.title, _TITLE, _INK, size[0])
    y += line_height(_TITLE)
    page.paste(_enlarged(tile.picture, size), (x, y))
    y += size[1] + 4
    if tile.scale is None:
        return
    page.paste(Image.fromarray(_bar(tile.scale, size[0])), (x, y))
    marks = ("low", "high") if tile.scale == "heat" else ("against", "for")
    draw_text(page, (x, y + _BAR), marks[0], _MARK, _FAINT, size[0])
    draw_text(page, (x, y + _BAR), marks[1], _MARK, _FAINT, size[0], align="right")


def _bar(scale: Scale, width: int) -> Picture:
    """Return the colours of a scale from left to right, as in overlays on white."""
    ramp = np.tile(np.linspace(0.0, 1.0, width), (_BAR, 1))
    if scale == "heat":
        return _blended(np.zeros((*ramp.shape, 3)), _inferno(ramp), np.ones((*ramp.shape, 1)))
    strength = 2.0 * ramp[..., None] - 1.0
    return _blended(np.full((*ramp.shape, 3), 255.0), np.where(strength < 0, _AGAINST, _FOR), np.abs(strength) ** 0.7)


def _tile_size(picture: Picture) -> tuple[int, int]:
    """Return the (width, height) of shown pictures; small ones grow by a whole factor, so that pixels stay square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    factor = min(1.0, _LARGEST / side) if side >= _SMALLEST else _SMALLEST / side
    factor = float(math.ceil(factor)) if factor > 2 else factor
    return max(1, round(width * factor)), max(1, round(height * factor))


def _enlarged(picture: Picture, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    whole = size[0] % image.width == 0 and size[0] > image.width
    return image.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)


def _sized(heatmap: Floats, picture: Picture) -> Floats:
    """Return a map resized to the picture."""
    height, width = picture.shape[:2]
    if heatmap.shape == (height, width):
        return heatmap
    return np.asarray(cv2.resize(heatmap.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))


def _grey(picture: Picture) -> Floats:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float64)


def _inferno(heat: Floats) -> Floats:
    """Return the colours (H, W, 3) of a map in [0, 1]."""
    levels = np.rint(heat * 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB).astype(np.float64)


def _blended(base: Floats, colour: Floats, alpha: Floats) -> Picture:
    return np.rint(base * (1.0 - alpha) + colour * alpha).clip(0, 255).astype(np.uint8)
