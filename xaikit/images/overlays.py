"""Heatmaps over photographs, as arrays.

    overlay         a colour map over the partly desaturated photograph; low values show the photograph
    signed_overlay  blue (against) and red (for) over the faded photograph; zero shows the photograph

Both colour scales are readable in print and with any colour vision: lightness increases with the value in inferno, and
blue and red remain distinguishable.

Shapes: picture (H, W, 3) uint8; heatmap (H, W) in [0, 1]; values (H, W) of any range; every result (H, W, 3) uint8.
"""

from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from numpy.typing import NDArray

from xaikit.foundation.errors import UnknownName

Picture = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

_OUTLIERS = 0.995  # quantile of a pixel map that is shown in the strongest colour
_AGAINST, _FOR = (33 / 255, 102 / 255, 172 / 255), (178 / 255, 24 / 255, 43 / 255)

HEAT = "inferno"
SIGNED = LinearSegmentedColormap.from_list("against-for", [(0.0, _AGAINST), (0.5, _AGAINST), (0.5, _FOR), (1.0, _FOR)])
"""The colours of signed values: one for each sign, as strong as the value."""


def colour_map(name: str) -> Colormap:
    """Return matplotlib's colour map of a name.

    Raises:
        UnknownName: there is none; the message suggests similar names.
    """
    if name not in mpl.colormaps:
        raise UnknownName("colour map", str(name), list(mpl.colormaps), "matplotlib's names are known, such as jet")
    return mpl.colormaps[name]


def coloured(heatmap: Floats, cmap: str = HEAT) -> Picture:
    """Return a heatmap in the colours of a colour map."""
    return _bytes(_rgb(colour_map(cmap), np.clip(np.nan_to_num(heatmap), 0.0, 1.0)))


def overlay(picture: Picture, heatmap: Floats, cmap: str = HEAT) -> Picture:
    """Return the picture with a heatmap over it, at the picture's size."""
    heat = _sized(np.clip(np.nan_to_num(heatmap), 0.0, 1.0), picture)
    alpha = 0.75 * np.clip(1.6 * heat, 0.0, 1.0)[..., None] ** 0.9
    base = 0.3 * picture + 0.7 * _grey(picture)
    base *= 0.85 + 0.15 * heat[..., None]
    return _blended(base, _rgb(colour_map(cmap), heat), alpha)


def signed_overlay(picture: Picture, values: Floats, cmap: str | None = None, top: float | None = None) -> Picture:
    """Return the faded picture with blue where values are negative and red where they are positive.

    Args:
        picture: (H, W, 3) uint8.
        values: (H, W) of any range.
        cmap: a diverging colour map of matplotlib in place of blue and red.
        top: magnitude in the full colour; None is that of the strongest half percent, so that a single peak does not
            fade all other pixels.
    """
    values = _sized(np.nan_to_num(np.asarray(values, np.float64), posinf=0.0, neginf=0.0), picture)
    top = strongest(values) if top is None else top
    strength = np.clip(values / top, -1.0, 1.0) if top > 0 else np.zeros_like(values)
    colour = _rgb(SIGNED if cmap is None else colour_map(cmap), 0.5 + 0.5 * strength)
    return _blended(0.3 * _grey(picture) + 0.7 * 255.0, colour, np.abs(strength)[..., None] ** 0.7)


def paled(picture: Picture, kept: NDArray[np.bool_]) -> Picture:
    """Return the picture with all pixels outside `kept` (H, W) faded."""
    return np.where(kept[..., None], picture, (0.15 * picture + 0.85 * 255).astype(np.uint8))


def saturated(heatmap: Floats) -> Floats:
    """Return a map >= 0 scaled to [0, 1] so that its highest half percent is 1, because pixel maps have rare peaks."""
    top = strongest(heatmap)
    return np.clip(heatmap / top, 0.0, 1.0) if top > 0 else np.zeros_like(heatmap)


def strongest(values: Floats) -> float:
    """Return the magnitude that all but the highest half percent of the values stay below."""
    magnitude = np.abs(values)
    return float(np.quantile(magnitude, _OUTLIERS)) or float(np.max(magnitude, initial=0.0))


def on_white(cmap: Colormap) -> Colormap:
    """Return the colours of a signed colour map as they look over white, zero being white."""
    place = np.linspace(-1.0, 1.0, 255)
    alpha = np.abs(place)[:, None] ** 0.7
    return LinearSegmentedColormap.from_list("on-white", cmap(0.5 + 0.5 * place)[:, :3] * alpha + 1.0 - alpha, N=255)


def _sized(heatmap: Floats, picture: Picture) -> Floats:
    """Return a map resized to the picture."""
    height, width = picture.shape[:2]
    if heatmap.shape == (height, width):
        return heatmap
    return np.asarray(cv2.resize(heatmap.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))


def _grey(picture: Picture) -> Floats:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float64)


def _rgb(cmap: Colormap, heat: Floats) -> Floats:
    """Return the colours (H, W, 3) in [0, 255] of a map in [0, 1]."""
    return 255.0 * np.asarray(cmap(heat))[..., :3]


def _blended(base: Floats, colour: Floats, alpha: Floats) -> Picture:
    return _bytes(base * (1.0 - alpha) + colour * alpha)


def _bytes(values: Floats) -> Picture:
    return np.rint(values).clip(0, 255).astype(np.uint8)
