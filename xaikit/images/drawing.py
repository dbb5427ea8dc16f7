"""Pictures and figures of maps, drawn by matplotlib without its global state.

    illustrate   one image with the maps of several methods: panel and overlays, as arrays
    sheet        rows of pictures with titles, colour bars, captions and notes, as a figure
    curves       values over the removed share, one line an image and their mean, as a figure

A figure is shown by a notebook, and written by its `savefig`.

Shapes: picture (H, W, 3) uint8; heatmap (H, W) in [0, 1]; values (H, W) of any range.
"""

import math
import unicodedata
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from html import escape
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names
from PIL import Image

from xaikit.images.overlays import (
    HEAT,
    SIGNED,
    Floats,
    Picture,
    colour_map,
    on_white,
    overlay,
    saturated,
    signed_overlay,
    strongest,
)
from xaikit.images.placing import Frame, mark, place

_INK, _FAINT = "#202020", "#787878"
_DPI = 100
_SMALLEST, _LARGEST = 224, 448  # long side of a tile
_COLUMNS = 5
_MARGIN, _GAP, _BAR = 14, 12, 5
_CAPTION, _TITLE, _MARK = 20, 15, 11  # sizes of text in pixels
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "Hiragino Sans GB"),
    *("Microsoft YaHei", "Malgun Gothic", "Yu Gothic", "Arial Unicode MS"),
)


class Map(NamedTuple):
    """One method's map of one image.

    Args:
        method: name of the method.
        heatmap: (H, W) in [0, 1].
        values: (H, W) raw values of a method whose sign or rare peaks matter; else None.
        signed: whether positive values speak for the class and negative values against it.
    """

    method: str
    heatmap: Floats
    values: Floats | None = None
    signed: bool = False


class Bar(NamedTuple):
    """The colour bar of a picture.

    Args:
        cmap: name of the colour map; None is blue for negative and red for positive values.
        low: text at the lower end.
        high: text at the upper end.
        signed: whether the colours fade to white in the middle.
    """

    cmap: str | None = HEAT
    low: str = "low"
    high: str = "high"
    signed: bool = False

    @property
    def colours(self) -> Colormap:
        """The colours from the lower to the upper end."""
        colours = SIGNED if self.cmap is None else colour_map(self.cmap)
        return on_white(colours) if self.signed else colours


SIGNED_BAR = Bar(None, "against", "for", signed=True)


class Tile(NamedTuple):
    """One picture in a figure.

    Args:
        title: text above the picture.
        picture: (H, W, 3) uint8.
        bar: colour bar below the picture; None for no bar.
    """

    title: str
    picture: Picture
    bar: Bar | None = Bar()


class Row(NamedTuple):
    """The pictures of one image.

    Args:
        caption: line of text above them, such as the class and its probability.
        tiles: the pictures, at most five side by side.
    """

    caption: str
    tiles: Sequence[Tile]


class Pictures(NamedTuple):
    """The pictures of one image.

    Args:
        panel: input and overlays side by side, (H, W, 3) uint8.
        overlays: the overlay of each method, by name.
    """

    panel: Picture
    overlays: dict[str, Picture]


class Sheet(Figure):
    """A figure that needs no pyplot and no backend: a notebook shows it as it is."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()

    def html(self, text: str) -> str:
        """Return the figure below a line of text, for a notebook."""
        image, line = b64encode(self._repr_png_()).decode(), escape(text, quote=True)
        return f'<p>{line}</p><img alt="{line}" src="data:image/png;base64,{image}"/>'

    @property
    def pixels(self) -> Picture:
        """(H, W, 3) uint8, the drawn figure."""
        canvas: Any = self.canvas
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def illustrate(
    picture: Picture,
    maps: Sequence[tuple[str, Floats, Floats | None, bool]],
    caption: str,
    title: str = "input",
    notes: Sequence[str] = (),
    frame: Frame | None = None,
) -> Pictures:
    """Draw one image with the maps of several methods.

    Args:
        picture: the network's input or, with `frame`, the original, (H, W, 3) uint8.
        maps: the fields of one `Map` per method.
        caption: text above the panel, such as the class and its probability.
        title: text above the input.
        notes: lines below the panel, such as what the flags of the maps mean.
        frame: where the maps lie in the picture; None is the whole picture.
    """
    frame = None if frame is None else frame.scaled((picture.shape[0], picture.shape[1]))
    tiles = [map_tile(picture, Map(*fields), frame) for fields in maps]
    panel = sheet([Row(caption, [Tile(title, marked(picture, frame), None), *tiles])], notes).pixels
    return Pictures(panel, {tile.title: tile.picture for tile in tiles})


def map_tile(picture: Picture, entry: Map, frame: Frame | None = None) -> Tile:
    """Return a map as an overlay: signed values in blue and red, all others in inferno."""
    if entry.values is not None and entry.signed:
        values = np.nan_to_num(np.asarray(entry.values, np.float64), posinf=0.0, neginf=0.0)
        drawn = signed_overlay(picture, placed(values, frame), top=strongest(values))
        return Tile(entry.method, marked(drawn, frame), SIGNED_BAR)
    heatmap = entry.heatmap if entry.values is None else saturated(entry.heatmap)
    return Tile(entry.method, marked(overlay(picture, placed(heatmap, frame)), frame))


def placed(values: Floats, frame: Frame | None) -> Floats:
    """Return a map where the network saw it; without a frame as it is."""
    return values if frame is None else place(values, frame)


def marked(picture: Picture, frame: Frame | None) -> Picture:
    """Return a picture that shows what the network saw; without a frame as it is."""
    return picture if frame is None else mark(picture, frame)


def sheet(rows: Sequence[Row], notes: Sequence[str] = (), columns: int = _COLUMNS) -> Sheet:
    """Return a figure of rows of pictures.

    Args:
        rows: the pictures of each image.
        notes: lines of small text below all rows, broken where they do not fit.
        columns: largest number of pictures side by side; more are wrapped into even lines.
    """
    grids = [math.ceil(len(row.tiles) / math.ceil(len(row.tiles) / columns)) for row in rows]
    sizes = [_tile_size(row.tiles[0].picture) for row in rows]
    widest = max(across * (size[0] + _GAP) - _GAP for across, size in zip(grids, sizes, strict=True))
    texts: list[tuple[str, int, int, str]] = []  # text, top, size, colour
    places: list[tuple[Tile, int, int, tuple[int, int]]] = []  # tile, left, top, size
    y = _MARGIN
    letters = _CAPTION if all(_text_width(row.caption, _CAPTION) <= widest for row in rows) else _TITLE
    for row, across, size in zip(rows, grids, sizes, strict=True):
        first, *more = _broken(row.caption, widest, letters) or [""]
        for line in filter(None, [first, " ".join(more)]):  # the second is shortened
            texts.append((line, y, letters, _INK))
            y += _line(letters)
        y += _GAP // 2 if row.caption else 0
        step = _line(_TITLE) + size[1] + 4 + _BAR + _line(_MARK) + _GAP
        for index, tile in enumerate(row.tiles):
            places.append((tile, _MARGIN + index % across * (size[0] + _GAP), y + index // across * step, size))
        y += math.ceil(len(row.tiles) / across) * step
    for line in (line for note in notes for line in _broken(note, widest, _MARK)):
        texts.append((line, y, _MARK, _FAINT))
        y += _line(_MARK)
    page = _Page(Sheet(widest + 2 * _MARGIN, y + _MARGIN - _GAP * (not notes)))
    for text, top, letters, colour in texts:
        page.text(_MARGIN, top, text, letters, colour, widest)
    for tile, left, top, size in places:
        page.tile(tile, left, top, size)
    return page.figure


def curves(x: Floats, lines: Floats, mean: Floats, xlabel: str, ylabel: str, title: str) -> Sheet:
    """Return a figure of lines (N, T) over x (T,), faint, with their mean (T,)."""
    figure = Sheet(520, 360)
    axes = figure.add_axes((0.12, 0.15, 0.84, 0.74))
    if len(lines) > 1:
        axes.plot(x, lines.T, color=_FAINT, linewidth=0.7, alpha=0.5)
    axes.plot(x, mean, color=colour_map(HEAT)(0.45), linewidth=2, marker="o", markersize=3)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(legible(title), fontsize=_points(_TITLE), loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    return figure


class _Page:
    """A figure on which things are placed in pixels from its upper left corner."""

    def __init__(self, figure: Sheet) -> None:
        self.figure = figure
        self.width, self.height = (round(side * _DPI) for side in figure.get_size_inches())

    def text(self, x: int, y: int, text: str, size: int, colour: str, width: int, align: str = "left") -> None:
        """Write one line into the box that starts at (x, y); longer text is shortened."""
        self.figure.text(
            (x if align == "left" else x + width) / self.width,
            1 - (y + 0.5 * _line(size)) / self.height,
            _shortened(legible(text), width, size),
            size=_points(size),
            color=colour,
            ha="left" if align == "left" else "right",
            va="center_baseline",
            family=families(),
            parse_math=False,
        )

    def axes(self, x: int, y: int, size: tuple[int, int]) -> Any:
        """Return bare axes of `size` = (width, height) pixels."""
        box = (x / self.width, 1 - (y + size[1]) / self.height, size[0] / self.width, size[1] / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes

    def tile(self, tile: Tile, x: int, y: int, size: tuple[int, int]) -> None:
        """Draw a tile's title, picture and colour bar."""
        self.text(x, y, tile.title, _TITLE, _INK, size[0])
        y += _line(_TITLE)
        shown = _enlarged(tile.picture, size)
        self.axes(x, y, size).imshow(shown, interpolation="nearest", aspect="auto")
        y += size[1] + 4
        if tile.bar is None:
            return
        axes = self.axes(x, y, (size[0], _BAR))
        colours = ScalarMappable(Normalize(), tile.bar.colours)
        self.figure.colorbar(colours, axes, orientation="horizontal", ticks=[]).outline.set_visible(False)
        self.text(x, y + _BAR, tile.bar.low, _MARK, _FAINT, size[0] // 2)
        self.text(x + size[0] - size[0] // 2, y + _BAR, tile.bar.high, _MARK, _FAINT, size[0] // 2, "right")


def _tile_size(picture: Picture) -> tuple[int, int]:
    """Return the (width, height) of shown pictures; small ones grow by a whole factor, so that pixels stay square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    factor = min(1.0, _LARGEST / side) if side >= _SMALLEST else _SMALLEST / side
    factor = float(math.ceil(factor)) if factor > 2 else factor
    return max(1, round(width * factor)), max(1, round(height * factor))


def _enlarged(picture: Picture, size: tuple[int, int]) -> Picture:
    image = Image.fromarray(np.ascontiguousarray(picture))
    whole = size[0] % image.width == 0 and size[0] > image.width
    return np.asarray(image.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS))


# ---- text -----------------------------------------------------------------------------------------------------------


def legible(text: str) -> str:
    """Return text as one line of letters that the fonts have: others without their accents, or as question marks."""
    return "".join(letter if _has(letter) else _ascii(letter) for letter in " ".join(text.split()))


def _ascii(letter: str) -> str:
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return plain if plain.isprintable() and plain else "?"


@cache
def families() -> list[str]:
    """Return the installed fonts whose letters `legible` keeps."""
    installed = set(get_font_names())
    return [name for name in _FONTS if name in installed]


@cache
def _has(letter: str) -> bool:
    files = (findfont(FontProperties(family=name)) for name in families())
    return letter.isprintable() and any(get_font(file).get_char_index(ord(letter)) for file in files)


@cache
def _width(letter: str, size: int) -> float:
    """Return the width of a letter in pixels; letters of other fonts are as wide as the size."""
    font = get_font(findfont(FontProperties(family=families()[0])))
    if not font.get_char_index(ord(letter)):
        return float(size)
    font.set_size(_points(size), _DPI)
    glyph = font.load_char(ord(letter))
    return max(glyph.horiAdvance / 64, glyph.linearHoriAdvance / 65536)  # rendered with hints or without


def _text_width(text: str, size: int) -> float:
    return sum(_width(letter, size) for letter in text)


def _shortened(text: str, width: float, size: int) -> str:
    """Return the text, cut and followed by three dots if it is wider than `width` pixels."""
    if _text_width(text, size) <= width:
        return text
    left = width - 3 * _width(".", size)
    kept = 0
    while kept < len(text) and (left := left - _width(text[kept], size)) >= 0:
        kept += 1
    return f"{text[:kept].rstrip()}..." if kept else ""


def _broken(text: str, width: float, size: int) -> list[str]:
    """Return the text in lines of at most `width` pixels, broken between words."""
    lines: list[str] = []
    for word in legible(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _line(size: int) -> int:
    return round(1.4 * size)


def _points(size: int) -> float:
    return 72 * size / _DPI
