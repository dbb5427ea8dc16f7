"""The images of a report: how they are chosen, and what is shown of each.

    rows, seed -> a sample drawn by the seed, and the images at fixed quantiles of one method's value -> Choice
    Choice, its rows and pictures -> Shown: small pictures as data URIs, and the curves of the image

Images are never picked by hand: the sample depends only on seed and names, the quantiles only on the rows. The value
is that of the best method by the measure that decides, KeepAUC under binary masks where it is among several.
"""

import base64
import hashlib
import heapq
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
from markupsafe import Markup
from PIL import Image

from xaikit.benchmark.rows import Row
from xaikit.foundation.errors import XaikitWarning
from xaikit.report.figures.confidence import confidence_svg
from xaikit.report.figures.svg import Style
from xaikit.report.numbers.aggregate import Mask, Summary
from xaikit.report.numbers.columns import Measures, shown_columns

_MASKS: tuple[Mask, ...] = get_args(Mask)
_PREFERRED = "keep_auc_binary"
_QUANTILES = {"worst": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "best": 1.0}
_LARGEST = 2**25  # largest number of pixels of a picture; those that are written have far fewer
_SIDE = 168  # longest side of a picture in the page, in pixels
_QUALITY = 80
_PIXELATED = 96  # longest side up to which a picture is enlarged without smoothing


@dataclass(frozen=True)
class Choice:
    """An image to show and the reason: "sample", or the quantile of a method's value under a measure."""

    image_id: str
    reason: str
    method: str = ""
    measure: str = ""
    value: str = ""


@dataclass(frozen=True)
class Picture:
    """One small picture.

    Args:
        title: name of the method, "input" or "evidence".
        uri: the picture as a data URI.
        pixelated: whether the picture is enlarged without smoothing.
        colour: CSS class of the method's colour.
        control: whether the method is a control.
        numbers: names and values under the picture.
        rises: whether the confidence rises under the whole map.
    """

    title: str
    uri: str
    pixelated: bool
    colour: str = ""
    control: bool = False
    numbers: tuple[tuple[str, str], ...] = ()
    rises: bool = False


@dataclass(frozen=True)
class Shown:
    """One image of the report.

    Args:
        choice: the image and the reason why it is shown.
        label: name of the true class, or "".
        target: name of the explained class.
        confidence: y as text.
        wrong: whether the explained class is not the true one.
        scenes: the input, and the evidence if it is known.
        maps: existing overlays by method.
        curves: figure of the confidence by mask; none if no keep curve was measured.
    """

    choice: Choice
    label: str
    target: str
    confidence: str
    wrong: bool
    scenes: tuple[Picture, ...]
    maps: dict[str, Picture]
    curves: dict[Mask, Markup]


def choose(summary: Summary, seed: int, sample: int, measures: Measures | None = None) -> list[Choice]:
    """Return the images to show: a random sample, then the images at the quantiles, which are not in the sample.

    Args:
        summary: numbers of one dataset and model.
        seed: seed of the sample.
        sample: number of images in the sample.
        measures: the measures of the suite.
    """
    quantiles = _at_quantiles(summary, sample, measures)
    explained = ~np.isnan(summary.confidence)
    others = {image for image, known in zip(summary.images, explained, strict=True) if known} - set(quantiles)
    shuffled = heapq.nsmallest(sample, others, key=lambda image: hashlib.sha256(f"{seed}:{image}".encode()).digest())
    return [*(Choice(image, "sample") for image in shuffled), *quantiles.values()]


def show(
    choices: Sequence[Choice],
    rows: Sequence[Row],
    pictures: Mapping[str, Mapping[str, Path]],
    styles: Mapping[str, Style],
) -> tuple[Shown, ...]:
    """Return the chosen images that have pictures.

    Args:
        choices: the chosen images.
        rows: rows of these images.
        pictures: for each image, the files of "input", "evidence" (optional) and the overlay of each method.
        styles: style of each method, in the order of the report.
    """
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        if not row.get("error"):
            by_image.setdefault(str(row["image_id"]), []).append(row)
    return tuple(
        _shown(choice, by_image[choice.image_id], pictures[choice.image_id], styles)
        for choice in choices
        if choice.image_id in pictures and choice.image_id in by_image
    )


def _at_quantiles(summary: Summary, sample: int, measures: Measures | None) -> dict[str, Choice]:
    """Return the images at the quantiles of the best method's value, by name; none for at most `sample` images."""
    methods = [result for result in summary.results if not result.is_control]
    columns = [column for column in shown_columns(summary.results, measures) if column.decides] if methods else []
    columns.sort(key=lambda column: column.key != _PREFERRED)
    for column in columns[:1]:
        leader = min(methods, key=lambda result: column.order(result.mean(column.key)))
        values = zip(leader.images, leader.values[column.key].tolist(), strict=True)
        known = {image: value for image, value in values if not math.isnan(value)}
        order = sorted(known, key=lambda image: (-column.order(known[image]), image))
        if len(order) > sample:
            found: dict[str, Choice] = {}
            for reason, quantile in _QUANTILES.items():
                image = order[round(quantile * (len(order) - 1))]
                found.setdefault(image, Choice(image, reason, leader.method, column.name, column.text(known[image])))
            return found
    return {}


def _area(o: Sequence[float]) -> float:
    return float(np.trapezoid(o, dx=1 / (len(o) - 1)))


def _shown(choice: Choice, rows: Sequence[Row], files: Mapping[str, Path], styles: Mapping[str, Style]) -> Shown:
    by_method = {row["method"]: row for row in rows}
    images = {name: image for name, file in files.items() if (image := _image(file)) is not None}
    first, known = rows[0], {name: by_method[name] for name in styles if name in by_method}
    label, target = first.get("label"), first.get("target")
    controls_first = sorted(known, key=lambda name: known[name]["family"] != "control")
    measured = _MASKS if first.get("o_soft") is not None else ()
    curves = {mask: {name: known[name][f"o_{mask}"] for name in controls_first} for mask in measured}
    return Shown(
        choice=choice,
        label=str(first.get("label_name") or ("" if label is None else f"class {label}")),
        target=str(first.get("target_name") or f"class {target}"),
        confidence=f"{first['y']:.2f}",
        wrong=label is not None and label != target,
        scenes=tuple(_picture(name, images[name]) for name in ("input", "evidence") if name in images),
        maps={name: _map(row, images[name], styles[name]) for name, row in known.items() if name in images},
        # Markup is safe here: the SVG holds only numbers and names that figures/svg.py has escaped
        curves={
            mask: Markup(confidence_svg(choice.image_id, mask, first["y"], own, styles))  # noqa: S704
            for mask, own in curves.items()
        },
    )


def _map(row: Row, image: Image.Image, style: Style) -> Picture:
    soft, binary = row.get("o_soft"), row.get("o_binary")
    numbers = [("mean", row.get("map_mean"))]
    if soft is not None and binary is not None:
        numbers = [("soft", soft[0]), ("binary", _area(binary)), *numbers]
    return _picture(
        row["method"],
        image,
        colour=style.colour,
        control=row["family"] == "control",
        numbers=tuple((name, f"{value:.2f}") for name, value in numbers if value is not None),
        rises=soft is not None and soft[0] > row["y"],
    )


def _image(path: Path) -> Image.Image | None:
    """Return a picture of the report, or None with a warning for a file that is none: the page has its numbers."""
    try:
        with Image.open(path, formats=["PNG"]) as image:  # no other format is written, and some run other programs
            if image.width * image.height <= _LARGEST:
                return image.convert("RGB")
            got = "more"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        got = f"something else ({error})"
    expected = f"{path}: expected a PNG of at most {_LARGEST:,} pixels for the report, got {got}"
    warnings.warn(f"{expected}; the report is without it, remove it", XaikitWarning, stacklevel=2)
    return None


def _picture(
    title: str,
    image: Image.Image,
    colour: str = "",
    control: bool = False,
    numbers: tuple[tuple[str, str], ...] = (),
    rises: bool = False,
) -> Picture:
    pixelated = max(image.size) <= _PIXELATED
    image.thumbnail((_SIDE, _SIDE))
    stream = BytesIO()
    image.save(stream, format="WEBP", quality=_QUALITY, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return Picture(title, uri, pixelated, colour, control, numbers, rises)
