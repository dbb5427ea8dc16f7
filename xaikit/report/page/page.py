"""The page: rows and pictures become `report.html`, one file that opens offline and requests nothing.

    rows -> a block for each dataset and model -> template.html with report.css and report.js -> report.html
                                               -> figures/*.svg
    run  -> what was run, where, by which command

Every text is escaped by jinja2, except the SVG of the figures, which escape their own texts. The content security
policy of the page forbids any request.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from xaikit.foundation.files import write_text
from xaikit.report.figures.confidence import PANELS
from xaikit.report.figures.files import write_figures
from xaikit.report.numbers.aggregate import Mask, Row, blocks
from xaikit.report.numbers.columns import QUESTIONS
from xaikit.report.page.block import Block, block

Pictures = Mapping[tuple[str, str], Mapping[str, Mapping[str, Path]]]
"""By (dataset, model) and image: the files of "input", "evidence" (optional) and the overlay of each method."""

SAMPLE = 6
"""Number of images drawn at random; the images at the quantiles are added."""

_EMPTY_RUN = {"title": "xaikit report", "command": "", "created": "", "environment": {}, "left_out": ()}


def write_report(
    path: str | Path,
    rows: Sequence[Row],
    run: Mapping[str, Any],
    pictures: Pictures | None = None,
    sample: int = SAMPLE,
    directions: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all, and its figures into the same folder; return its path. See `render`."""
    page_blocks = _blocks(rows, run, pictures, sample, directions)
    write_text(path, _page(page_blocks, run))
    write_figures(Path(path).parent, page_blocks)
    return Path(path)


def render(
    rows: Sequence[Row],
    run: Mapping[str, Any],
    pictures: Pictures | None = None,
    sample: int = SAMPLE,
    directions: Mapping[str, str] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        rows: one row per image and method, as scoring writes them.
        run: facts about the run: "title", "command", "created", "seed", "environment", a mapping of facts, and
            "left_out", lines about rows that are not pooled with the others.
        pictures: overlays of the images, or None for a page without images.
        sample: number of images drawn at random by the run's seed; the images at the quantiles are added.
        directions: better direction by measure, for measures without a predefined column.

    Raises:
        BadInput: there are no rows, or a row lacks a required column.
    """
    return _page(_blocks(rows, run, pictures, sample, directions), run)


def _blocks(
    rows: Sequence[Row],
    run: Mapping[str, Any],
    pictures: Pictures | None,
    sample: int,
    directions: Mapping[str, str] | None,
) -> list[Block]:
    seed = int(run.get("seed", 0))
    return [
        block(f"block-{index}", name, block_rows, (pictures or {}).get(name, {}), sample, seed, directions or {})
        for index, (name, block_rows) in enumerate(blocks(rows).items())
    ]


def _page(page_blocks: Sequence[Block], run: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("xaikit.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(
        run=_EMPTY_RUN | dict(run),
        seed=int(run.get("seed", 0)),
        blocks=page_blocks,
        panels=PANELS,
        masks=get_args(Mask),
        questions=QUESTIONS,
        levels=page_blocks[0].results[0].thresholds.size - 1,
    )
