"""The first screen, of a block and of several: what was asked, under which circumstances, three pictures with maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from xaikit.report.numbers.aggregate import Summary
from xaikit.report.numbers.answers import Answer
from xaikit.report.numbers.cross import CrossTable, cross_tables
from xaikit.report.numbers.gather import Name
from xaikit.report.page.gallery import Shown

if TYPE_CHECKING:
    from xaikit.report.page.block import Block

PICTURES = 3
_MAPS = 5  # largest number of maps beside each picture


@dataclass(frozen=True)
class Cross:
    """The first screen of a report on several models or data sets.

    Args:
        asked: what was asked, in one sentence.
        heads: model and data set of each column, as far as they differ.
        tables: the cross table of each measure that decides.
        images: images of different models and data sets.
        maps: methods whose maps stand beside them.
    """

    asked: str
    heads: tuple[str, ...]
    tables: tuple[CrossTable, ...]
    images: tuple[Shown, ...]
    maps: tuple[str, ...]


def cross(blocks: Mapping[Name, Block]) -> Cross | None:
    """Return the first screen of several blocks, None for one."""
    if len(blocks) < 2:
        return None
    datasets, models = (tuple(dict.fromkeys(names)) for names in zip(*blocks, strict=True))
    methods = {line.result.method for block in blocks.values() for line in block.table.methods}
    what = models[0] if len(models) == 1 else f"{len(models)} models"
    uses = "uses" if len(models) == 1 else "use"
    where = datasets[0] if len(datasets) == 1 else f"{len(datasets)} data sets"
    tables = cross_tables({name: block.table for name, block in blocks.items()})
    images = [image for turn in zip_longest(*(block.first_images for block in blocks.values())) for image in turn]
    shown = tuple(image for image in images if image is not None)[:PICTURES]
    order = dict.fromkeys(line.method for table in tables for line in table.blocks.get("methods", ()))
    heads = {name: [name[1]] * (len(models) > 1) + [name[0]] * (len(datasets) > 1) for name in blocks}
    return Cross(
        f"Which of {_counted(len(methods), 'attribution method')} shows best what {what} {uses} in {where}?",
        tuple(" on ".join(head) for head in heads.values()),
        tables,
        shown,
        _drawn(order, shown),
    )


def asked(name: Name, summary: Summary) -> str:
    """Return in one sentence what was asked."""
    dataset, model = name
    methods = [result.method for result in summary.results if not result.is_control]
    images = _counted(len(summary.images), "image")
    if len(methods) == 1:
        return f"How well does {methods[0]} show what {model} uses in {images} of {dataset}?"
    return f"Which of {len(methods)} attribution methods shows best what {model} uses in {images} of {dataset}?"


def circumstances(summary: Summary) -> tuple[str, ...]:
    """Return sentences on the explained classes and on the controls."""
    confidence, correct = (values[~np.isnan(values)] for values in (summary.confidence, summary.correct))
    controls = [result.method for result in summary.results if result.is_control and not result.is_evidence]
    evidence = [result.method for result in summary.results if result.is_evidence]
    sentences = []
    if confidence.size:
        sentences.append(f"The network's confidence in the explained class is {confidence.mean():.3f} on average.")
    if correct.size:
        sentences.append(f"This class is the true one in {correct.mean():.1%} of the images.")
    if controls:
        made = "control is made" if len(controls) == 1 else "controls are made"
        sentences.append(
            f"{len(controls)} {made} without the network ({', '.join(controls)}): "
            "where a method is no better than one of them, a measure shows nothing."
        )
    if evidence:
        sentences.append("The evidence is known: the oracle is its map, the anti-oracle the map of all else.")
    return tuple(sentences)


def first_maps(given: Sequence[Answer], images: Sequence[Shown], styles: Mapping[str, object]) -> tuple[str, ...]:
    """Return the methods whose maps stand beside the first pictures: best, tied, next, then the others."""
    lines = [line.method for answer in given for line in answer.lines if line.is_method]
    leaders = [answer.best[0] for answer in given]
    return _drawn(dict.fromkeys((*leaders, *lines, *styles)), images)


def _drawn(methods: Iterable[str], images: Sequence[Shown]) -> tuple[str, ...]:
    drawn = {method for image in images for method, picture in image.maps.items() if not picture.control}
    return tuple(method for method in methods if method in drawn)[:_MAPS]


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
