"""One block of the page: everything about one dataset and model, which are never pooled with others.

    summary, rows of the images shown -> question, answers, first pictures, table, curves, cost, differences, ranks,
                                         images, exclusions

The numbers behind the figures are added as JSON for the page's script.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup

from xaikit.benchmark.rows import Row
from xaikit.foundation.flags import described
from xaikit.report.figures.agreement import agreement_svg
from xaikit.report.figures.confidence import PANELS, panel_svg
from xaikit.report.figures.differences import differences_svg
from xaikit.report.figures.svg import Style, styles, swatch_svg
from xaikit.report.figures.tradeoff import tradeoff_svg
from xaikit.report.numbers.aggregate import Exclusion, Mask, Result, Summary
from xaikit.report.numbers.answers import Answer, answers, conclusion
from xaikit.report.numbers.columns import Column, Measures
from xaikit.report.numbers.compare import (
    Difference,
    RankMatrix,
    all_differences,
    default_reference,
    pareto,
    rank_matrix,
)
from xaikit.report.numbers.gather import Name
from xaikit.report.numbers.tables import Table, summary_table
from xaikit.report.page.gallery import Choice, Shown, show
from xaikit.report.page.opening import PICTURES, asked, circumstances, first_maps

_MASKS: tuple[Mask, ...] = get_args(Mask)
_PREFERRED = ("keep_auc_binary", "measure.srg")
"""Measures that the figures show first among those that decide, because they depend only on the order of pixels."""


@dataclass(frozen=True)
class Block:
    """The content of the page for one dataset and model.

    Args:
        key: prefix of the anchors.
        dataset: name of the dataset.
        model: name of the model.
        asked: what was asked, in one sentence.
        answers: the best method by each measure that decides, and the figures that show it.
        conclusion: the answers in one sentence.
        circumstances: sentences on the explained classes and the controls.
        first_maps: methods whose maps stand beside the first pictures.
        results: results of all methods, controls last.
        styles: style of each method.
        swatches: legend line of each method.
        table: the summary table.
        curves: panels of the paper's figure by mask and curve; none if no keep curve was measured.
        qualities: measures that the reader can choose for the figures.
        tradeoffs: figure of quality against cost by measure.
        reference: initial reference of the differences.
        differences: figure of differences by measure.
        ranks: ranks of the methods under every measure.
        images: images of the gallery, by the reason why they are shown.
        exclusions: excluded rows and their reasons.
        notes: further sentences for the reader.
        numbers: data for the page's script.
    """

    key: str
    dataset: str
    model: str
    asked: str
    answers: tuple[Answer, ...]
    conclusion: str
    circumstances: tuple[str, ...]
    first_maps: tuple[str, ...]
    results: tuple[Result, ...]
    styles: dict[str, Style]
    swatches: dict[str, Markup]
    table: Table
    curves: dict[Mask, dict[str, Markup]]
    qualities: tuple[Column, ...]
    tradeoffs: dict[str, Markup]
    reference: str
    differences: dict[str, Markup]
    ranks: RankMatrix
    images: dict[str, tuple[Shown, ...]]
    exclusions: tuple[Exclusion, ...]
    notes: tuple[str, ...]
    numbers: dict[str, Any]

    def numbers_of(self, measures: int | None) -> dict[str, Any]:
        """Return the data for the page's script, with the pairs of the first measures of `qualities`."""
        pairs = {column.key: self.numbers["pairs"][column.key] for column in self.qualities[:measures]}
        return self.numbers | {"pairs": pairs}

    def agreement_of(self, measures: int | None = None) -> Markup:
        """Return the figure of the agreement between the first measures of `ranks`."""
        return Markup(agreement_svg(self.ranks.first(measures)))  # noqa: S704 - escaped as all figures

    @property
    def first_images(self) -> tuple[Shown, ...]:
        """The images of the first screen."""
        return tuple(image for group in self.images.values() for image in group)[:PICTURES]


def block(
    key: str,
    name: Name,
    summary: Summary,
    choices: Sequence[Choice],
    rows: Sequence[Row],
    pictures: Mapping[str, Mapping[str, Path]],
    measures: Measures,
) -> Block:
    """Return the block of one dataset and model.

    Args:
        key: prefix of the anchors.
        name: names of dataset and model.
        summary: numbers of this dataset and model.
        choices: images to show.
        rows: rows of these images.
        pictures: picture files by image and method.
        measures: the measures of the suite.
    """
    results = summary.results
    method_styles = styles(results)
    table = summary_table(results, measures)
    qualities = _qualities(table.columns, results)
    differences = {column.key: _by_reference(table, results, column) for column in qualities}
    reference = default_reference(results)
    ranks = rank_matrix(results, [column for column in table.columns if column in qualities])
    methods = [result.method for result in results]
    given, shown = answers(results, table), show(choices, rows, pictures, method_styles)
    # Markup is safe here: the SVG holds only numbers and names that figures/svg.py has escaped
    return Block(
        key=key,
        dataset=name[0],
        model=name[1],
        asked=asked(name, summary),
        answers=given,
        conclusion=conclusion(given),
        circumstances=circumstances(summary),
        first_maps=first_maps(given, shown, method_styles),
        results=results,
        styles=method_styles,
        swatches={name: Markup(swatch_svg(style)) for name, style in method_styles.items()},  # noqa: S704
        table=table,
        curves={
            mask: {panel.key: Markup(panel_svg(panel, results, mask, method_styles)) for panel in PANELS}  # noqa: S704
            for mask in _masks(results)
        },
        qualities=qualities,
        tradeoffs={column.key: Markup(_tradeoff(results, column, method_styles)) for column in qualities},  # noqa: S704
        reference=reference,
        differences={
            column.key: Markup(  # noqa: S704
                differences_svg(methods, differences[column.key][reference], reference, column, method_styles)
            )
            for column in qualities
        },
        ranks=ranks,
        images=_by_reason(shown),
        exclusions=summary.exclusions,
        notes=_notes(results),
        numbers={
            "curves": _curves(results),
            "pairs": {name: _triangle(methods, pairs) for name, pairs in differences.items()},
        },
    )


def _qualities(columns: Sequence[Column], results: Sequence[Result]) -> tuple[Column, ...]:
    """Return the measures that have a value for most of the methods, those that decide first."""
    methods = [result for result in results if not result.is_control] or results
    ranked = [
        column
        for column in columns
        if column.ranked
        and not column.is_cost
        and 2 * sum(math.isfinite(method.mean(column.key)) for method in methods) > len(methods)
    ]
    return tuple(sorted(ranked, key=lambda column: (not column.decides, column.key not in _PREFERRED)))


def _tradeoff(results: Sequence[Result], column: Column, method_styles: Mapping[str, Style]) -> str:
    return tradeoff_svg(pareto(results, column, "ms"), column, "milliseconds per image (logarithmic)", method_styles)


def _by_reference(table: Table, results: Sequence[Result], column: Column) -> dict[str, dict[str, Difference]]:
    return {
        reference: {difference.method: difference for difference in differences}
        for reference, differences in all_differences(results, column, table.pairs[column.key]).items()
    }


def _triangle(methods: Sequence[str], pairs: Mapping[str, Mapping[str, Difference]]) -> list[list[float | None]]:
    """Return the numbers of each pair of methods, the first with every later one, then the second, and so on.

    They are mean, low and high of later minus earlier, p with the earlier and with the later as the reference, and the
    shares of images on which the later is better and worse.
    """
    found = []
    for index, earlier in enumerate(methods):
        for later in methods[index + 1 :]:
            one = pairs[earlier][later]
            numbers = [_rounded(value, 3) for value in (one.mean, one.low, one.high)]
            shares = (one.p, pairs[later][earlier].p, one.better, one.worse)
            found.append([*numbers, *(_rounded(share, 2) for share in shares)])
    return found


def _rounded(value: float, digits: int = 4) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _curves(results: Sequence[Result]) -> dict[str, Any]:
    """Return the values and the lower and upper ends of their intervals, by mask, curve and method."""
    return {
        mask: {
            panel.key: {
                result.method: [
                    [_rounded(value) for value in line.tolist()]
                    for line in (result.curves[mask][panel.key], *result.bands[mask][panel.key])
                ]
                for result in results
            }
            for panel in PANELS
        }
        for mask in _masks(results)
    }


def _masks(results: Sequence[Result]) -> tuple[Mask, ...]:
    """Return the masks; none if no keep curve was measured."""
    return (
        _MASKS
        if any(result.bands["soft"]["api"].size and math.isfinite(result.mean("api")) for result in results)
        else ()
    )


def _notes(results: Sequence[Result]) -> tuple[str, ...]:
    notes = []
    for result in results:
        total = result.count + result.excluded
        notes += [f"{result.method}: {count} of {total} maps flagged {flag}." for flag, count in result.flags.items()]
    notes += [described(flag) for flag in sorted({flag for result in results for flag in result.flags})]
    share, method = max(
        ((r.scalars["api_largest_share"], r.method) for r in results if r.scalars["api_largest_share"] > 0),
        default=(0.0, ""),
    )
    if method:
        notes.append(f"API is a mean with a heavy tail: one image contributes {share:.0%} of the API of {method}.")
    return tuple(notes)


def _by_reason(images: Sequence[Shown]) -> dict[str, tuple[Shown, ...]]:
    groups = {
        "sample": tuple(image for image in images if image.choice.reason == "sample"),
        "quantiles": tuple(image for image in images if image.choice.reason != "sample"),
    }
    return {name: group for name, group in groups.items() if group}
