"""The page: rows and pictures become `report.html`, one file that opens offline and asks nothing of the network.

    rows -> aggregate -> figures, tables
    pictures -> a seeded sample, as data URIs       all -> template.html -> report.html
    run -> what was run, where, by which command

Every text is escaped by jinja2; only the SVG of figures.py, which escapes for itself, goes in as it is. The page's own
content policy forbids any request.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from xaikit.core.errors import BadInput
from xaikit.core.files import write_text
from xaikit.report.aggregate import Mask, Result, Row, aggregate, blocks
from xaikit.report.figures import PANELS, Style, panel_svg, styles, swatch_svg
from xaikit.report.tables import Table, summary_table

__all__ = ["Pictures", "read_rows", "render", "write_report"]

Pictures = Mapping[str, Mapping[str, Path]]
"""By image_id: "input", perhaps "evidence", and each method's overlay, as files."""

_THUMBNAIL = 128
_MASKS: tuple[Mask, ...] = get_args(Mask)


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
    sample: int = 6,
    directions: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all, and return its path. See `render`."""
    write_text(path, render(rows, run, pictures, sample, directions))
    return Path(path)


def render(
    rows: Sequence[Row],
    run: Mapping[str, Any],
    pictures: Pictures | None = None,
    sample: int = 6,
    directions: Mapping[str, str] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        rows: one an image and method, as scoring writes them.
        run: what to say about the run: "title", "command", "created", "seed", and "environment", a mapping of facts.
        pictures: overlays of the images, or None for a page without them.
        sample: how many images are shown, drawn by the run's seed and not by hand.
        directions: by measure, which way is better, for those that no column shows.

    Raises:
        BadInput: no rows, or rows without their columns.
    """
    environment = Environment(
        loader=PackageLoader("xaikit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    seed = int(run.get("seed", 0))
    shown = [
        _block(place, dataset, model, own, pictures or {}, sample, seed, directions or {})
        for place, ((dataset, model), own) in enumerate(blocks(rows).items())
    ]
    about = {"title": "xaikit report", "command": "", "created": "", "environment": {}} | dict(run)
    return environment.get_template("template.html").render(
        run=about, seed=seed, blocks=shown, panels=PANELS, masks=_MASKS, levels=shown[0].results[0].thresholds.size - 1
    )


@dataclass(frozen=True)
class _Tile:
    """One small picture with what stands under it."""

    title: str
    uri: str
    style: str = ""
    after: str = ""
    rises: bool = False


@dataclass(frozen=True)
class _Sampled:
    """One sampled image: what it is, what the model said, and its tiles."""

    image_id: str
    label: str
    target: str
    confidence: str
    correct: bool | None
    tiles: tuple[_Tile, ...]


@dataclass(frozen=True)
class _Block:
    """What the page shows for one dataset and model."""

    key: str
    dataset: str
    model: str
    facts: tuple[tuple[str, str], ...]
    results: tuple[Result, ...]
    styles: dict[str, Style]
    swatches: dict[str, Markup]
    figures: dict[Mask, dict[str, Markup]]
    values: dict[str, dict[str, dict[str, list[float | None]]]]
    table: Table
    notes: tuple[str, ...]
    sampled: tuple[_Sampled, ...]
    images: int


def _block(
    place: int,
    dataset: str,
    model: str,
    rows: Sequence[Row],
    pictures: Pictures,
    sample: int,
    seed: int,
    directions: Mapping[str, str],
) -> _Block:
    results = aggregate(rows)
    drawn = styles(results)
    images = {str(row["image_id"]): row for row in rows}
    return _Block(
        key=f"block-{place}",
        dataset=dataset,
        model=model,
        facts=_facts(images, results),
        results=tuple(results),
        styles=drawn,
        # what figures.py draws is SVG of numbers and of names that it has escaped
        swatches={name: Markup(swatch_svg(style)) for name, style in drawn.items()},  # noqa: S704
        figures={
            mask: {panel.key: Markup(panel_svg(panel, results, mask, drawn)) for panel in PANELS}  # noqa: S704
            for mask in _MASKS
        },
        values={
            mask: {panel.key: {r.method: _listed(r, mask, panel.key) for r in results} for panel in PANELS}
            for mask in _MASKS
        },
        table=summary_table(results, directions),
        notes=_notes(results),
        sampled=_sample(rows, pictures, sample, seed, drawn),
        images=len(images),
    )


def _facts(images: Mapping[str, Row], results: Sequence[Result]) -> tuple[tuple[str, str], ...]:
    labelled = [row for row in images.values() if row.get("label") is not None]
    confidence = [row["y"] for row in images.values() if row["y"] is not None]
    facts = [("images", str(len(images)))]
    if labelled:
        correct = sum(row["label"] == row["target"] for row in labelled) / len(labelled)
        facts.append(("explained class is the true one", f"{correct:.1%}"))
    if confidence:
        facts.append(("mean confidence y", f"{sum(confidence) / len(confidence):.3f}"))
    facts.append(("methods", str(sum(not result.is_control for result in results))))
    facts.append(("controls", str(sum(result.is_control for result in results))))
    return tuple(facts)


def _listed(result: Result, mask: Mask, curve: str) -> list[float | None]:
    return [round(float(value), 4) if value == value else None for value in result.curves[mask][curve]]


def _notes(results: Sequence[Result]) -> tuple[str, ...]:
    notes = []
    for result in results:
        total = result.count + result.excluded
        notes += [f"{result.method}: {count} of {total} maps flagged {flag}." for flag, count in result.flags.items()]
        if result.excluded:
            notes.append(f"{result.method}: {result.excluded} of {total} rows left out of the means.")
    share, method = max(
        ((r.scalars["api_largest_share"], r.method) for r in results if r.scalars["api_largest_share"] > 0),
        default=(0.0, ""),
    )
    if method:
        notes.append(f"API is a mean with a heavy tail: of that of {method}, one image contributes {share:.0%}.")
    return tuple(notes)


def _sample(
    rows: Sequence[Row], pictures: Pictures, count: int, seed: int, drawn: Mapping[str, Style]
) -> tuple[_Sampled, ...]:
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        if row["image_id"] in pictures:
            by_image.setdefault(row["image_id"], []).append(row)
    lots = sorted(by_image, key=lambda image: hashlib.sha256(f"{seed}:{image}".encode()).digest())
    return tuple(_sampled(by_image[image], pictures[image], drawn) for image in lots[:count])


def _sampled(rows: Sequence[Row], files: Mapping[str, Path], drawn: Mapping[str, Style]) -> _Sampled:
    first, by_method = rows[0], {row["method"]: row for row in rows}
    label = first.get("label_name") or ("" if first.get("label") is None else f"class {first['label']}")
    tiles = [_Tile(name, _data_uri(files[name])) for name in ("input", "evidence") if name in files]
    for method, style in drawn.items():
        if method in files and method in by_method:
            row = by_method[method]
            after, rises = f"{row['o_soft'][0]:.2f}", row["o_soft"][0] > row["y"]
            tiles.append(_Tile(method, _data_uri(files[method]), style.colour, after, rises))
    return _Sampled(
        image_id=str(first["image_id"]),
        label=str(label),
        target=str(first.get("target_name") or f"class {first.get('target')}"),
        confidence=f"{first['y']:.2f}",
        correct=None if first.get("label") is None else first["label"] == first.get("target"),
        tiles=tuple(tiles),
    )


def _data_uri(path: Path) -> str:
    """Return a picture, made small, as a data URI."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except OSError as error:
        raise BadInput(f"{path}: expected a picture for the report, got something else ({error})") from error
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = BytesIO()
    small.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
