"""The page: rows and pictures become `report.html`, one file that opens offline and asks nothing of the network.

    rows -> a block for each dataset and model -> template.html with report.css and report.js -> report.html
                                               -> figures/*.svg
    run  -> what was run, where, by which command

Every text is escaped by jinja2; only the SVG of the figures, which escape for themselves, goes in as it is. The page's
own content policy forbids any request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import write_text
from xaikit.report.figures.confidence import PANELS
from xaikit.report.figures.files import write_figures
from xaikit.report.numbers.aggregate import Mask, Row, blocks
from xaikit.report.numbers.columns import QUESTIONS
from xaikit.report.page.block import Block, block

Pictures = Mapping[tuple[str, str], Mapping[str, Mapping[str, Path]]]
"""By (dataset, model) and image: "input", perhaps "evidence", and each method's overlay, as files."""

SAMPLE = 6
"""Images that are drawn by the seed; those at the quantiles stand beside them."""

_NOTHING = {"title": "xaikit report", "command": "", "created": "", "environment": {}}


def read_rows(path: str | Path) -> list[Row]:
    """Read rows that were written as one JSON list.

    Raises:
        BadInput: no such file, or no list of rows.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected rows as JSON, got something else ({error}); score first") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{path}: expected a list of rows, got {type(rows).__name__}; give the file that scoring wrote")
    return rows


def write_report(
    path: str | Path,
    rows: Sequence[Row],
    run: Mapping[str, Any],
    pictures: Pictures | None = None,
    sample: int = SAMPLE,
    directions: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all, its figures beside it, and return its path. See `render`."""
    shown = _blocks(rows, run, pictures, sample, directions)
    write_text(path, _page(shown, run))
    write_figures(Path(path).parent, shown)
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
        rows: one an image and method, as scoring writes them.
        run: what to say about the run: "title", "command", "created", "seed", and "environment", a mapping of facts.
        pictures: overlays of the images, or None for a page without them.
        sample: how many images are shown, drawn by the run's seed and not by hand; as many quantiles follow.
        directions: by measure, which way is better, for those that no column shows.

    Raises:
        BadInput: no rows, or rows without their columns.
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
        block(f"block-{place}", name, own, (pictures or {}).get(name, {}), sample, seed, directions or {})
        for place, (name, own) in enumerate(blocks(rows).items())
    ]


def _page(shown: Sequence[Block], run: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("xaikit.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(
        run=_NOTHING | dict(run),
        seed=int(run.get("seed", 0)),
        blocks=shown,
        panels=PANELS,
        masks=get_args(Mask),
        questions=QUESTIONS,
        levels=shown[0].results[0].thresholds.size - 1,
    )
