"""The page: rows and pictures become `report.html`, one file that opens offline and requests nothing.

    summaries -> a block for each dataset and model -> template.html with report.css and report.js -> report.html
                                                    -> figures/*.svg
    run  -> what was run, where, by which command

Every text is escaped by jinja2, except the SVG of the figures, which escape their own texts; characters that are obeyed
instead of shown are written as their escapes. The content security policy of the page forbids any request.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xaikit.benchmark.rows import Row
from xaikit.foundation.files import write_text
from xaikit.foundation.texts import visible
from xaikit.report.figures.confidence import PANELS
from xaikit.report.figures.files import write_figures
from xaikit.report.numbers.aggregate import Mask, Summary
from xaikit.report.numbers.columns import QUESTIONS, Measures
from xaikit.report.numbers.gather import Name
from xaikit.report.page.block import Block, block
from xaikit.report.page.gallery import choose
from xaikit.report.page.opening import cross

RowsOf = Callable[[Name, Collection[str]], Sequence[Row]]
"""Returns the rows of some images of one data set and model."""

Pictures = Mapping[Name, Mapping[str, Mapping[str, Path]]]
"""By (dataset, model) and image: the files of "input", "evidence" (optional) and the overlay of each method."""

SAMPLE = 6
"""Number of images drawn at random; the images at the quantiles are added."""

_EXCLUSIONS = 100  # largest number of reasons that are listed
_COLUMNS = 12  # largest number of columns of the summary table that fit a printed page
_LARGEST = 3_000_000  # bytes of a page
_DETAILS = ((None, None), (6, 16), (4, 12), (3, 8), (2, 4), (1, 2), (0, 1))
"""Largest numbers of images of a kind and of measures with figures, tried until the page is small enough."""
_EMPTY_RUN = {"title": "xaikit report", "command": "", "created": "", "environment": {}, "methods": {}, "left_out": ()}


def page_blocks(
    summaries: Mapping[Name, Summary],
    rows: RowsOf,
    run: Mapping[str, Any],
    pictures: Pictures | None = None,
    sample: int = SAMPLE,
    measures: Measures | None = None,
) -> list[Block]:
    """Return the block of each dataset and model.

    Args:
        summaries: numbers of each dataset and model.
        rows: returns the rows of the images that are shown.
        run: facts about the run: "title", "command", "created", "seed", "environment", a mapping of facts, "methods",
            meaning, formula and source of each, and "left_out", lines about rows that are not pooled with the others.
        pictures: overlays of the images, or None for a page without images.
        sample: number of images drawn at random by the run's seed; the images at the quantiles are added.
        measures: the measures of the suite by their name in rows, in its order.
    """
    blocks = []
    for index, (name, summary) in enumerate(summaries.items()):
        own = (pictures or {}).get(name, {})
        chosen = choose(summary, int(run.get("seed", 0)), sample, measures)
        choices = [choice for choice in chosen if choice.image_id in own]
        shown = rows(name, [choice.image_id for choice in choices]) if choices else []
        blocks.append(block(f"block-{index}", name, summary, choices, shown, own, measures or {}))
    return blocks


def write_page(path: str | Path, blocks: Sequence[Block], run: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all, and its figures into the same folder."""
    write_text(path, page(blocks, run))
    write_figures(Path(path).parent, blocks)


def page(blocks: Sequence[Block], run: Mapping[str, Any]) -> str:
    """Return the page as HTML; where all would be too large, with fewer images and figures of each block."""
    environment = Environment(
        loader=PackageLoader("xaikit.report.page", "."),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    template = environment.get_template("template.html")
    html = ""
    for images, measures in _DETAILS:
        html = template.render(
            run=_EMPTY_RUN | dict(run),
            seed=int(run.get("seed", 0)),
            blocks=blocks,
            cross=cross({(block.dataset, block.model): block for block in blocks}),
            panels=PANELS,
            masks=get_args(Mask),
            questions=QUESTIONS,
            most_columns=_COLUMNS,
            most_exclusions=_EXCLUSIONS,
            most_images=images,
            most_measures=measures,
            levels=blocks[0].results[0].thresholds.size - 1,
        )
        if len(html.encode()) <= _LARGEST:
            break
    return html


def _shown(value: Any) -> Any:
    """Return a text without characters that a browser or an editor obeys instead of showing."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
