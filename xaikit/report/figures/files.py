"""The figures of the page as SVG files, for papers and slides.

DIR/figures/MODEL-DATASET-FIGURE.svg    FIGURE: curves-soft, curves-binary, cost, differences, agreement

Long names are cut to a length that every file system takes.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from xaikit.foundation.files import output_directory, write_text
from xaikit.report.figures.confidence import PANELS
from xaikit.report.figures.svg import drawing, shortened, standalone, text
from xaikit.report.numbers.aggregate import Mask
from xaikit.report.page.block import Block

_PANEL = (340.0, 236.0)
_GAP, _TITLE = 12.0, 20.0
_LONGEST = 150  # largest number of bytes of the part of a file name before the figure
_ENTRY, _LINE, _LETTERS = 200.0, 20.0, 25


def write_figures(folder: str | Path, blocks: Sequence[Block]) -> None:
    """Write the figures of every block as the page shows them initially.

    Args:
        folder: folder in which `figures` is created.
        blocks: blocks of the page.
    """
    figures = output_directory(Path(folder) / "figures")
    for block in blocks:
        for title, svg in _figures(block):
            write_text(figures / f"{_name(block, blocks)}-{title}.svg", standalone(svg))


def _name(block: Block, blocks: Sequence[Block]) -> str:
    """Return a file name for model and dataset, with a number if two blocks would have the same name."""
    names = [_cut(re.sub(r"[^\w.-]+", "-", f"{each.model}-{each.dataset}").strip("-.").lower()) for each in blocks]
    index = blocks.index(block)
    return names[index] if names.count(names[index]) == 1 else f"{names[index]}-{index}"


def _cut(name: str) -> str:
    """Return a name of at most `_LONGEST` bytes; a longer one ends with a hash of the whole."""
    content = name.encode()
    if len(content) <= _LONGEST:
        return name
    return f"{content[: _LONGEST - 9].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:8]}"


def _figures(block: Block) -> Iterator[tuple[str, str]]:
    for mask in block.curves:
        yield f"curves-{mask}", _sheet(block, mask)
    for column in block.qualities[:1]:
        yield "cost", block.tradeoffs[column.key]
        yield "differences", block.differences[column.key]
        yield "agreement", block.agreement_of()


def _sheet(block: Block, mask: Mask) -> str:
    """Return the four panels of one kind of masks side by side, with titles, and the legend below."""
    width, height = _PANEL
    parts = []
    for index, panel in enumerate(PANELS):
        x = index * (width + _GAP)
        parts.append(text(f"{panel.title} {panel.arrow}, {mask} masks", x + 38, 14, "name"))
        parts.append(_nested(block.curves[mask][panel.key], x, _TITLE, width, height))
    columns = int((len(PANELS) * (width + _GAP)) // _ENTRY)
    top = _TITLE + height + _GAP
    for index, (method, swatch) in enumerate(block.swatches.items()):
        x, y = 38 + index % columns * _ENTRY, top + index // columns * _LINE
        parts.append(_nested(swatch, x, y, 28, 12))
        parts.append(text(shortened(method, _LETTERS), x + 36, y + 10, "name"))
    lines = -(-len(block.swatches) // columns)
    size = (len(PANELS) * (width + _GAP), top + lines * _LINE + 4)
    return drawing("sheet", size, f"API, APD, IR and DR over the threshold, {mask} masks", parts)


def _nested(svg: str, x: float, y: float, width: float, height: float) -> str:
    return str(svg).replace("<svg ", f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" ', 1)
