"""Which rows of a results folder may be pooled, and why the others are left out.

    row -> its setting and picture are those of the manifest
        -> of the rows of one unit the first that has all values of the manifest, else the first that failed
        -> within a data set and model the conditions are equal, each method has one setting a seed,
           each image one content and label, and the times come from one device
        -> else it is left out, with the reason

Without a manifest the largest group of equal rows is the report. What decides is a property of the kind of a row, or of
its image and picture, so that codes are compared and not rows.

Shapes: all arrays are (R,) for R rows.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xaikit.benchmark.manifest import CONDITIONS, Manifest, changed
from xaikit.benchmark.rows import Row, values_of
from xaikit.report.numbers.gather import Array, Gathered

_PROTOCOL = "the protocol changed"
_LACKING = "values are missing, run the benchmark again"
_SETTING = "the method's parameters, code, layer or library changed"
_PICTURE = "the picture or its label changed"
_LOST = "the data no longer have the picture"
_BLOCK = ("dataset", "model")
_EQUAL: tuple[tuple[tuple[str, ...], str, str], ...] = (
    *((_BLOCK, name, reason) for name, reason in CONDITIONS.items()),
    ((*_BLOCK, "method", "seed"), "setting", _SETTING),
)
"""Columns that name a group, a column that must be equal in it, and the reason why other rows are left out."""

_ANY, _NONE, _UNKNOWN = -1, -2, -3  # expected pictures: whatever it is, none, one that no row has


class Pooled(NamedTuple):
    """The rows that are pooled.

    Args:
        ranks: (R,) place of each row in the order of the suite, -1 for a row that is left out.
        untimed: (R,) whether a row's time was measured on another device than most.
        left_out: a line for each data set, model and reason.
    """

    ranks: Array
    untimed: Array
    left_out: list[str]


def pool(gathered: Gathered, manifest: Manifest) -> Pooled:
    """Return the rows that belong to the report of a manifest and may be pooled."""
    kinds, kind, image, picture = (gathered.kinds, *map(gathered.array, ("kind", "image", "picture")))
    blocks = _codes(kinds, _BLOCK)[kind]
    chosen = _Chosen(gathered)
    for reason, codes in _by_reason(_foreign(about, manifest) for about in kinds).items():
        chosen.drop(np.isin(kind[chosen.rows], codes), reason)
    expected = _expected(gathered, manifest)
    chosen.drop(expected[blocks, image][chosen.rows] == _NONE, _LOST)
    own = expected[blocks, image][chosen.rows]
    chosen.drop((own != _ANY) & (own != picture[chosen.rows]), _PICTURE)
    unwanted = [_unwanted(about, manifest) for about in kinds]
    other, lacking = (np.array([one == reason for one in unwanted], np.bool_)[kind] for reason in (_PROTOCOL, _LACKING))
    chosen.drop(other[chosen.rows], _PROTOCOL)
    ok = np.array([about["status"] == "ok" for about in kinds], np.int8)[kind]
    chosen.one_per_unit(ok - 2 * lacking)
    chosen.drop(lacking[chosen.rows], _LACKING)
    for names, column, reason in (*_EQUAL, *(() if manifest.settings else ((_BLOCK, "protocol", _PROTOCOL),))):
        groups, values = _codes(kinds, names)[kind], _codes(kinds, (column,))[kind]
        chosen.drop(~_largest(groups[chosen.rows], values[chosen.rows]), reason)
    images = blocks.astype(np.int64) * len(gathered.images) + image
    chosen.drop(~_largest(images[chosen.rows], picture[chosen.rows]), _PICTURE)
    untimed = np.zeros(len(kind), np.bool_)
    timed = chosen.rows[gathered.array("timed")[chosen.rows]]
    untimed[timed] = ~_largest(blocks[timed], _codes(kinds, ("hardware",))[kind[timed]])
    for reason, codes in _by_reason(f"only the time, measured on {about['hardware']}" for about in kinds).items():
        chosen.count(np.flatnonzero(untimed & np.isin(kind, codes)), reason)
    places = {setting: place for place, setting in enumerate(manifest.settings)}
    order = np.array([places.get(str(about["setting"]), 0) for about in kinds], np.int64)[kind[chosen.rows]]
    by_name = np.zeros(len(gathered.images), np.int64)
    by_name[sorted(range(len(by_name)), key=gathered.images.__getitem__)] = np.arange(len(by_name))
    ranks = np.full(len(kind), -1)
    ranks[chosen.rows[np.lexsort((by_name[image[chosen.rows]], order))]] = np.arange(len(chosen.rows))
    return Pooled(ranks, untimed, chosen.lines())


class _Chosen:
    """The rows that are not left out, in order of appearance, and how many are left out for which reason."""

    def __init__(self, gathered: Gathered) -> None:
        self.gathered = gathered
        self.rows: Array = np.arange(len(gathered))
        self.left: Counter[tuple[str, str, str]] = Counter()

    def drop(self, these: Array, reason: str) -> None:
        """Leave out the rows for which `these` is true."""
        self.count(self.rows[these], reason)
        self.rows = self.rows[~these]

    def count(self, rows: Array, reason: str) -> None:
        """Count rows that are left out for a reason."""
        kinds = self.gathered.kinds
        for code, count in enumerate(np.bincount(self.gathered.array("kind")[rows], minlength=len(kinds)).tolist()):
            if count:
                self.left[str(kinds[code]["dataset"]), str(kinds[code]["model"]), reason] += count

    def one_per_unit(self, worth: Array) -> None:
        """Keep of the rows of one unit the first of the greatest worth, at the place of the first."""
        units = self.gathered.units()[self.rows]
        order = np.lexsort((self.rows, -worth[self.rows], units))
        best = order[np.unique(units[order], return_index=True)[1]]
        first = np.unique(units, return_index=True)[1]
        self.rows = self.rows[best[np.argsort(first, kind="stable")]]

    def lines(self) -> list[str]:
        """Return a line for each data set, model and reason."""
        return [
            f"{count:,} {'row' if count == 1 else 'rows'} of {model} on {dataset} left out: {reason}"
            for (dataset, model, reason), count in sorted(self.left.items())
        ]


def _foreign(about: Row, manifest: Manifest) -> str:
    """Return why rows do not belong to the report of a manifest, whatever their image is, or ""."""
    if not manifest.settings or about["setting"] in manifest.settings:
        return ""
    block = [other for other in manifest.settings.values() if all(other.get(name) == about[name] for name in _BLOCK)]
    if not block:
        return "the data set or the model is no longer in the report"
    measured = any(all(other.get(name) == about[name] for name in ("method", "seed")) for other in block)
    return changed(about, block[0]) or (_SETTING if measured else "the method is not measured")


def _unwanted(about: Row, manifest: Manifest) -> str:
    """Return why rows do not have the values of a manifest, or ""."""
    asked, values = manifest.protocol.items(), values_of(about["protocol"])
    if not asked or (asked <= values if about["status"] == "ok" else values <= asked):
        return ""
    lacking = {name for name, _ in asked - values}
    return _PROTOCOL if about["status"] != "ok" or lacking & dict(values).keys() else _LACKING


def _expected(gathered: Gathered, manifest: Manifest) -> Array:
    """Return the picture (blocks, images) that the manifest has for each image."""
    codes = _codes(gathered.kinds, _BLOCK)
    expected = np.full((codes.max(initial=-1) + 1, len(gathered.images)), _ANY)
    pictures = {picture: code for code, picture in enumerate(gathered.pictures)}
    for code, about in zip(codes.tolist(), gathered.kinds, strict=True):
        known = manifest.images.get(str(about["dataset"]), {}).get(str(about["model"]))
        if known is not None and expected.size and expected[code, 0] == _ANY:
            expected[code] = [
                pictures.get(known[image], _UNKNOWN) if image in known else _NONE for image in gathered.images
            ]
    return expected


def _by_reason(reasons: Iterable[str]) -> dict[str, list[int]]:
    """Return the indices of the kinds with each reason other than ""."""
    result: dict[str, list[int]] = {}
    for code, reason in enumerate(reasons):
        if reason:
            result.setdefault(reason, []).append(code)
    return result


def _codes(kinds: Sequence[Row], names: tuple[str, ...]) -> Array:
    """Return a number for each kind, equal where the columns are."""
    known: dict[tuple[Any, ...], int] = {}
    return np.array([known.setdefault(tuple(about[name] for name in names), len(known)) for about in kinds], np.int64)


def _largest(groups: Array, values: Array) -> Array:
    """Return whether each row has the most frequent value of its group, of equally frequent ones the last."""
    if not len(groups):
        return np.zeros(0, np.bool_)
    size = int(values.max()) + 1
    pairs, inverse, counts = np.unique(groups.astype(np.int64) * size + values, return_inverse=True, return_counts=True)
    last = np.zeros(len(pairs), np.int64)
    np.maximum.at(last, inverse, np.arange(len(inverse)))
    order = np.lexsort((last, counts, pairs // size))
    group = pairs[order] // size
    best = np.zeros(len(pairs), np.bool_)
    best[order[np.append(group[1:] != group[:-1], True)]] = True
    chosen: Array = best[inverse]
    return chosen
