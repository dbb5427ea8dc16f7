"""The pictures of the page, as data addresses: overlays, thumbnails of layers, and what the browser hides pixels with.

level map    one RGB picture a map: red is the heatmap in 255 steps, green the first level that removes the pixel
keep_j       green > j, exactly the pixels that `keep_curve` keeps at level j (images/pixel_order.py)

Shapes: pictures (H, W, 3) uint8; heatmaps (H, W) in [0, 1].
"""

from base64 import b64encode
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xaikit.app.look import Look
from xaikit.app.tasks import LEVELS
from xaikit.foundation.identity import generators
from xaikit.images.drawing import Tile, marked
from xaikit.images.fills import Fill, fill_values
from xaikit.images.hashes import image_hashes
from xaikit.images.overlays import HEAT, Picture, coloured
from xaikit.images.pixel_order import ranks, removed
from xaikit.images.placing import Frame, frame_notes
from xaikit.images.reading import to_picture
from xaikit.run.attribution import Attribution
from xaikit.run.showing import drawn_maps, ends, is_diverging, tile

_SHOWN = 512  # largest side of pictures in the page
_GRID = 64  # side of a layer's thumbnail


def jpeg(picture: Picture) -> str:
    """Return a picture as the address of a JPEG that holds it."""
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{b64encode(stream.getvalue()).decode()}"


def png(picture: Picture) -> str:
    """Return a picture as the address of a PNG that holds it, whose values the browser reads exactly."""
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=4)
    return f"data:image/png;base64,{b64encode(stream.getvalue()).decode()}"


def original(look: Look) -> tuple[Picture, Frame]:
    """Return the whole picture as the page shows it, and what the network saw of it."""
    whole, frame = look.pictures.originals[0], look.pictures.frames[0]
    assert whole is not None
    assert frame is not None
    image = Image.fromarray(whole)
    image.thumbnail((_SHOWN, _SHOWN), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(image), frame.scaled((image.height, image.width))


def base(look: Look) -> tuple[Picture, list[str]]:
    """Return the whole picture with what the network saw framed, and what that means in words."""
    picture, frame = original(look)
    return marked(picture, frame), frame_notes([frame])


def crop(look: Look) -> Picture:
    """Return what the network saw."""
    return to_picture(look.pictures.pixels[0])


def limits(attribution: Attribution) -> tuple[float, float]:
    """Return the values at the ends of a map's own scale."""
    return ends(attribution, drawn_maps(attribution))


def overlay(look: Look, attribution: Attribution, cmap: str, between: tuple[float, float]) -> Tile:
    """Return a map over the whole picture, with its scale.

    Args:
        look: the picture.
        attribution: the map.
        cmap: matplotlib's colour map, unless the map is drawn round zero.
        between: the values at the ends of the colours.
    """
    picture, frame = original(look)
    shown = replace(attribution, originals=(picture,), frames=(frame,))
    colours = None if is_diverging(attribution) else cmap
    return tile(shown, 0, attribution.method, drawn_maps(attribution)[0], between, colours, "original")


def level_map(attribution: Attribution) -> Picture:
    """Return the map that the browser hides pixels with; see above."""
    heatmap = attribution.heatmap()[0].detach().cpu()
    order = ranks(heatmap[None])[0].numpy()
    counts = [removed(level, LEVELS, heatmap.numel()) for level in range(LEVELS + 1)]
    first = np.searchsorted(counts, order, side="right").reshape(heatmap.shape)
    heat = (heatmap * 255).round().numpy()
    return np.stack([heat, first, np.zeros_like(heat)], -1).astype(np.uint8)


def filled(look: Look, fill: Fill, seed: int) -> Picture:
    """Return what removed pixels are filled with; one pixel, if it is one colour."""
    classifier, pixels = look.classifier, look.pictures.pixels
    streams = generators(seed, image_hashes(pixels), "noise fill") if fill == "noise" else []
    values = fill_values(classifier.normalize, pixels, fill, streams)
    colours: Tensor = values * classifier.std.to(values) + classifier.mean.to(values)
    return to_picture(colours[0])


def grid_thumbnail(grid: np.ndarray[Any, Any]) -> Picture:
    """Return a layer's mean magnitude (h, w) in colours, each cell a square."""
    low, high = float(grid.min()), float(grid.max())
    unit = (grid - low) / (high - low) if high > low else np.zeros_like(grid)
    image = Image.fromarray(coloured(unit, HEAT))
    return np.asarray(image.resize((_GRID, _GRID), Image.Resampling.NEAREST if max(grid.shape) < _GRID else None))


def values_at(look: Look, attribution: Attribution, across: float, down: float) -> float | None:
    """Return the map's value at a place of the whole picture; None where the network did not see it.

    Args:
        look: the picture.
        attribution: the map.
        across: place as a share of the picture's width.
        down: place as a share of its height.
    """
    frame = look.pictures.frames[0]
    assert frame is not None
    (height, width), (top, left, bottom, right) = frame
    rows, columns = attribution.size
    row = int((down * height - top) / (bottom - top) * rows // 1)
    column = int((across * width - left) / (right - left) * columns // 1)
    if not (0 <= row < rows and 0 <= column < columns):
        return None
    return float(torch.as_tensor(drawn_maps(attribution)[0, row, column]))
