"""One block of the page: everything that is shown of one dataset and model, which are never pooled with others.

    rows -> results -> verdicts, table, curves, cost, differences, ranks, images, exclusions

Numbers that the page's script needs, which are those behind the figures, travel beside them as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup

from xaikit.report.figures.agreement import agreement_svg
from xaikit.report.figures.confidence import PANELS, panel_svg
from xaikit.report.figures.differences import differences_svg
from xaikit.report.figures.svg import Style, styles, swatch_svg
from xaikit.report.figures.tradeoff import tradeoff_svg
from xaikit.report.numbers.aggregate import Exclusion, Mask, Result, Row, aggregate, exclusions
from xaikit.report.numbers.columns import Column
from xaikit.report.numbers.compare import (
    Difference,
    RankMatrix,
    all_differences,
    default_reference,
    pareto,
    rank_matrix,
)
from xaikit.report.numbers.tables import Table, summary_table
from xaikit.report.numbers.verdict import Verdict, conclusion, verdicts
from xaikit.report.page.gallery import Choice, Shown, choose, show

_MASKS: tuple[Mask, ...] = get_args(Mask)
_PREFERRED = ("keep_auc_binary", "measure.srg")
"""Measures that the figures show first: what only the order of pixels decides."""


@dataclass(frozen=True)
class Block:
    """What the page shows for one dataset and model.

    Args:
        key: of its anchors.
        dataset: its name.
        model: its name.
        facts: what stands above it, by name.
        results: of all methods, the controls last.
        styles: each method's look.
        swatches: each method's piece of line.
        table: the summary.
        verdicts: who leads under soft masks, and who under binary ones.
        conclusion: what the two say together.
        curves: by mask and curve, the paper's figure.
        qualities: measures to choose from.
        tradeoffs: by measure, quality against cost.
        reference: the method that differences begin with.
        differences: by measure, the figure.
        ranks: of the methods by every measure.
        agreement: between the measures.
        images: what the gallery shows, by why it is shown.
        exclusions: what is not in the means, and why.
        notes: what else a reader should know.
        numbers: what the script needs.
    """

    key: str
    dataset: str
    model: str
    facts: tuple[tuple[str, str], ...]
    results: tuple[Result, ...]
    styles: dict[str, Style]
    swatches: dict[str, Markup]
    table: Table
    verdicts: tuple[Verdict, ...]
    conclusion: str
    curves: dict[Mask, dict[str, Markup]]
    qualities: tuple[Column, ...]
    tradeoffs: dict[str, Markup]
    reference: str
    differences: dict[str, Markup]
    ranks: RankMatrix
    agreement: Markup
    images: dict[str, tuple[Shown, ...]]
    exclusions: tuple[Exclusion, ...]
    notes: tuple[str, ...]
    numbers: dict[str, Any]


def block(
    key: str,
    name: tuple[str, str],
    rows: Sequence[Row],
    pictures: Mapping[str, Mapping[str, Path]],
    sample: int,
    seed: int,
    directions: Mapping[str, str],
) -> Block:
    """Return what is shown of the rows of one dataset and model.

    Args:
        key: of its anchors.
        name: of dataset and model.
        rows: of them.
        pictures: by image and method, as files.
        sample: how many images are drawn by the seed.
        seed: of that.
        directions: by measure, which way is better.
    """
    results = aggregate(rows)
    drawn = styles(results)
    table = summary_table(results, directions)
    qualities = _qualities(table.columns, results)
    pairs = {column.key: _pairs(results, column) for column in qualities}
    reference = default_reference(results)
    ranks = rank_matrix(results, [column for column in table.columns if column in qualities])
    methods = [result.method for result in results]
    # all SVG is drawn from numbers and from names that drawing.py has escaped
    return Block(
        key=key,
        dataset=name[0],
        model=name[1],
        facts=_facts(rows, results),
        results=tuple(results),
        styles=drawn,
        swatches={name: Markup(swatch_svg(style)) for name, style in drawn.items()},  # noqa: S704
        table=table,
        verdicts=verdicts(results, table),
        conclusion=conclusion(results, table),
        curves={
            mask: {panel.key: Markup(panel_svg(panel, results, mask, drawn)) for panel in PANELS}  # noqa: S704
            for mask in _MASKS
        },
        qualities=qualities,
        tradeoffs={column.key: Markup(_tradeoff(results, column, drawn)) for column in qualities},  # noqa: S704
        reference=reference,
        differences={
            column.key: Markup(  # noqa: S704
                differences_svg(methods, own[reference], reference, column, drawn)
            )
            for column in qualities
            for own in (pairs[column.key],)
        },
        ranks=ranks,
        agreement=Markup(agreement_svg(ranks)),  # noqa: S704
        images=_images(choose(rows, seed, sample), rows, pictures, drawn),
        exclusions=exclusions(rows),
        notes=_notes(results),
        numbers={"curves": _curves(results), "pairs": {name: _listed(methods, own) for name, own in pairs.items()}},
    )


def _qualities(columns: Sequence[Column], results: Sequence[Result]) -> tuple[Column, ...]:
    """Return the measures that rank most of the methods, the preferred first."""
    methods = [result for result in results if not result.is_control] or results
    ranked = [
        column
        for column in columns
        if column.ranked
        and not column.is_cost
        and 2 * sum(math.isfinite(one.mean(column.key)) for one in methods) > len(methods)
    ]
    return tuple(sorted(ranked, key=lambda column: column.key not in _PREFERRED))


def _tradeoff(results: Sequence[Result], column: Column, drawn: Mapping[str, Style]) -> str:
    return tradeoff_svg(pareto(results, column, "ms"), column, "milliseconds an image (logarithmic)", drawn)


def _pairs(results: Sequence[Result], column: Column) -> dict[str, dict[str, Difference]]:
    """Return the differences by reference and method."""
    by_reference = all_differences(results, column)
    return {reference: {one.method: one for one in own} for reference, own in by_reference.items()}


def _listed(
    methods: Sequence[str], pairs: Mapping[str, Mapping[str, Difference]]
) -> dict[str, list[list[float | None] | None]]:
    """Return mean, low, high, p, better and worse by reference, one list a method."""
    return {
        reference: [
            None if method not in own else [_rounded(value, 3) for value in _numbers(own[method])] for method in methods
        ]
        for reference, own in pairs.items()
    }


def _numbers(one: Difference) -> tuple[float, ...]:
    return one.mean, one.low, one.high, one.p, one.better, one.worse


def _rounded(value: float, digits: int = 4) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _curves(results: Sequence[Result]) -> dict[str, Any]:
    """Return by mask, curve and method: the values, and the lower and upper ends of their intervals."""
    return {
        mask: {
            panel.key: {
                one.method: [
                    [_rounded(value) for value in line.tolist()]
                    for line in (one.curves[mask][panel.key], *one.bands[mask][panel.key])
                ]
                for one in results
            }
            for panel in PANELS
        }
        for mask in _MASKS
    }


def _facts(rows: Sequence[Row], results: Sequence[Result]) -> tuple[tuple[str, str], ...]:
    images = {str(row["image_id"]): row for row in rows if row["y"] is not None}
    labelled = [row for row in images.values() if row.get("label") is not None]
    facts = [("images", f"{len({str(row['image_id']) for row in rows}):,}")]
    if images:
        facts.append(("mean confidence y", f"{sum(row['y'] for row in images.values()) / len(images):.3f}"))
    if labelled:
        correct = sum(row["label"] == row["target"] for row in labelled) / len(labelled)
        facts.append(("explained class is the true one", f"{correct:.1%}"))
    controls = sum(result.is_control for result in results)
    facts.append(("methods", str(len(results) - controls)))
    facts.append(("controls", str(controls)))
    return tuple(facts)


def _notes(results: Sequence[Result]) -> tuple[str, ...]:
    notes = []
    for result in results:
        total = result.count + result.excluded
        notes += [f"{result.method}: {count} of {total} maps flagged {flag}." for flag, count in result.flags.items()]
    share, method = max(
        ((r.scalars["api_largest_share"], r.method) for r in results if r.scalars["api_largest_share"] > 0),
        default=(0.0, ""),
    )
    if method:
        notes.append(f"API is a mean with a heavy tail: of that of {method}, one image contributes {share:.0%}.")
    return tuple(notes)


def _images(
    choices: Sequence[Choice],
    rows: Sequence[Row],
    pictures: Mapping[str, Mapping[str, Path]],
    drawn: Mapping[str, Style],
) -> dict[str, tuple[Shown, ...]]:
    shown = show(choices, rows, pictures, drawn)
    groups = {
        "sample": tuple(one for one in shown if one.choice.reason == "sample"),
        "quantiles": tuple(one for one in shown if one.choice.reason != "sample"),
    }
    return {name: group for name, group in groups.items() if group}
