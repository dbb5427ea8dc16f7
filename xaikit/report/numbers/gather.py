"""Rows as arrays: a million rows in memory, with what they have in common kept once.

    tables of rows -> kind of each row        (its columns except image and numbers; there are few different ones)
                   -> image, picture, unit    (codes)
                   -> numbers of the valid rows of each method
    rank of each row, or -1 for one that is left out -> Scores of each (data set, model)

A row is valid if its method did not fail and its map is finite. Numbers are taken out method by method, which frees
them.

Shapes: numbers (R, K) for R valid rows and K names; o (R, T) for T thresholds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xaikit.benchmark.rows import COLUMNS, MEASURE, Row
from xaikit.foundation.errors import BadInput

Array = np.ndarray[Any, Any]
Name = tuple[str, str]
"""Data set and model."""

NUMBERS = ("y", "label", "target", "map_mean", "pointing", "energy_inside", "ms", "forwards", "backwards")
REQUIRED = ("image_id", "method", "family", "dataset", "model", "levels", "y", "o_soft", "o_binary")
_KIND = (
    *("dataset", "model", "method", "family", "params", "layer", "calibrated", "levels", "seed", "status", "error"),
    *("setting", "conditions", "model_fingerprint", "target_rule", "protocol", "environment", "hardware", "flags"),
)
_IMAGE = ("image_id", "picture", "unit_id")
_OUTPUTS = ("o_soft", "o_binary")
READ = (*_KIND, *_IMAGE, *NUMBERS, *_OUTPUTS, "schema")
"""Columns that a report reads, beside the measures."""

_SEPARATOR = "\x1f"
_PORTION = 16_384  # number of rows that are coded together


class _Piece(NamedTuple):
    """Valid rows of one method: their places, and their numbers by name."""

    rows: Array
    names: tuple[str, ...]
    numbers: Array
    soft: Array
    binary: Array


class Numbers(NamedTuple):
    """Numbers of the valid rows of one method.

    Args:
        images: (R,) index of the image of each row.
        columns: (R,) by name.
        soft: (R, T) confidence at each threshold, soft masks; NaN without curves.
        binary: (R, T) the same for binary masks.
    """

    images: Array
    columns: dict[str, Array]
    soft: Array
    binary: Array


@dataclass
class MethodScores:
    """The rows of one method.

    Args:
        about: columns that are not numbers, of its first row.
        count: number of valid rows.
        excluded: number of the other rows.
        flags: number of rows with each flag.
    """

    about: Row
    count: int
    excluded: int
    flags: dict[str, int]
    _pieces: list[_Piece] = field(repr=False)
    _ranks: Array = field(repr=False)
    _images: Array = field(repr=False)

    def take(self) -> Numbers:
        """Return the numbers of the valid rows, in the order of the rows, and forget them."""
        pieces, self._pieces = self._pieces, []
        pieces = [piece for piece in pieces if (self._ranks[piece.rows] >= 0).any()]
        levels = pieces[0].soft.shape[1] - 1 if pieces else int(self.about["levels"] or 1)
        names = tuple(dict.fromkeys(name for piece in pieces for name in piece.names)) or NUMBERS
        rows = np.concatenate([piece.rows for piece in pieces]) if pieces else np.zeros(0, np.int64)
        kept = np.flatnonzero(self._ranks[rows] >= 0)
        order = kept[np.argsort(self._ranks[rows[kept]], kind="stable")]
        columns = {}
        for name in names:
            parts = [
                piece.numbers[:, piece.names.index(name)] if name in piece.names else np.full(len(piece.rows), np.nan)
                for piece in pieces
            ]
            columns[name] = np.concatenate(parts)[order] if parts else np.zeros(0)
        return Numbers(
            self._images[rows[order]],
            columns,
            _outputs([piece.soft for piece in pieces], "o_soft", levels)[order],
            _outputs([piece.binary for piece in pieces], "o_binary", levels)[order],
        )


@dataclass
class Scores:
    """The rows of one data set and model, as arrays.

    Args:
        images: names of all images, sorted.
        methods: the methods by name, in order of appearance.
        excluded: names of the images of the rows that are not valid, by method and reason, in order of appearance.
    """

    images: tuple[str, ...]
    methods: dict[str, MethodScores]
    excluded: dict[tuple[str, str], list[str]]


class Gathered:
    """Rows of any number of data sets and models; tables of rows are added one after the other."""

    def __init__(self) -> None:
        self.kinds: list[Row] = []
        self.images: list[str] = []
        self.pictures: list[str | None] = []
        self._codes: dict[str, dict[Any, int]] = {"kind": {}, "image_id": {}, "picture": {}}
        self._units: list[pa.Array] = []
        self._arrays: dict[str, list[Array]] = {"kind": [], "image": [], "picture": [], "timed": []}
        self._pieces: dict[tuple[str, str, str], list[_Piece]] = {}
        self._waiting: list[pa.Table] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count + sum(map(len, self._waiting))

    def add(self, rows: pa.Table) -> None:
        """Add the rows of a table with the columns `READ`, as far as they are known, and measures."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _PORTION:
            self._code()

    def array(self, name: str) -> Array:
        """Return of every row, (R,), the index of its "kind", "image" or "picture", or whether it is "timed"."""
        self._code()
        parts = self._arrays[name]
        self._arrays[name] = parts = [np.concatenate(parts)] if parts else [np.zeros(0, np.int32)]
        return parts[0]

    def units(self) -> Array:
        """Return the index of the unit of every row, (R,), and forget the names of the units."""
        self._code()
        units = pa.chunked_array(self._units, pa.string()).combine_chunks()
        self._units = []
        return np.asarray(units.dictionary_encode().indices)

    def scores(self, ranks: Array, untimed: Array | None = None) -> dict[Name, Scores]:
        """Return the rows of each data set and model, in the order of their ranks.

        Args:
            ranks: (R,) place of each row, -1 to leave it out.
            untimed: (R,) whether the time of a row is unknown after all.
        """
        kind, image = self.array("kind"), self.array("image")
        if untimed is not None and untimed.any():
            for piece in (piece for pieces in self._pieces.values() for piece in pieces):
                piece.numbers[untimed[piece.rows], piece.names.index("ms")] = np.nan
        kept = np.flatnonzero(ranks >= 0)
        kept = kept[np.argsort(ranks[kept], kind="stable")]
        groups: dict[Name, list[int]] = {name: [] for name in dict.fromkeys(_name(about) for about in self.kinds)}
        for index, about in enumerate(self.kinds):
            groups[_name(about)].append(index)
        result = {}
        for name, kinds in groups.items():
            rows = kept[np.isin(kind[kept], kinds)] if len(groups) > 1 else kept
            if rows.size:
                result[name] = rows[0], self._block(rows, kind, image, ranks)
        return {name: scores for name, (_, scores) in sorted(result.items(), key=lambda item: ranks[item[1][0]])}

    def _block(self, rows: Array, kind: Array, image: Array, ranks: Array) -> Scores:
        """Return the scores of the rows of one data set and model, which are in order."""
        codes = np.unique(image[rows])
        names = [self.images[code] for code in codes]
        order = sorted(range(len(names)), key=names.__getitem__)
        local = np.zeros(len(self.images), np.int32)
        local[codes[order]] = np.arange(len(codes), dtype=np.int32)
        local = local[image]
        used, first, inverse = np.unique(kind[rows], return_index=True, return_inverse=True)
        by_method: dict[str, list[int]] = {}
        for place in np.argsort(first, kind="stable").tolist():
            by_method.setdefault(str(self.kinds[used[place]]["method"]), []).append(place)
        counts = np.bincount(inverse, minlength=len(used)).tolist()
        methods = {}
        for method, places in by_method.items():
            kinds = [(self.kinds[used[place]], counts[place]) for place in places]
            flags: Counter[str] = Counter()
            for about, count in kinds:
                flags.update({flag: count * number for flag, number in Counter(about["flags"]).items()})
            excluded = sum(count for about, count in kinds if reason(about))
            about = kinds[0][0]
            methods[method] = MethodScores(
                about,
                sum(count for _, count in kinds) - excluded,
                excluded,
                dict(sorted(flags.items())),
                self._pieces.pop((*_name(about), method), []),
                ranks,
                local,
            )
        invalid = np.array([bool(reason(self.kinds[code])) for code in used])
        excluded_images: dict[tuple[str, str], list[str]] = {}
        for row in rows[invalid[inverse]].tolist():
            about = self.kinds[kind[row]]
            excluded_images.setdefault((str(about["method"]), reason(about)), []).append(self.images[image[row]])
        return Scores(tuple(names[place] for place in order), methods, excluded_images)

    def _code(self) -> None:
        """Turn the tables that wait into arrays."""
        tables, self._waiting = self._waiting, []
        if tables:
            self._add(pa.concat_tables(tables, promote_options="default").combine_chunks())

    def _add(self, rows: pa.Table) -> None:
        kind = self._kinds(rows)
        self._arrays["kind"].append(kind)
        self._arrays["image"].append(self._named(rows, "image_id", self.images))
        self._arrays["picture"].append(self._named(rows, "picture", self.pictures))
        self._units.append(_column(rows, "unit_id", pa.string()).combine_chunks())
        names = (*NUMBERS, *(name for name in rows.column_names if name.startswith(MEASURE)))
        numbers = np.column_stack([_floats(_column(rows, name, pa.float64())) for name in names])
        self._arrays["timed"].append(~np.isnan(numbers[:, names.index("ms")]))
        groups: dict[tuple[str, str, str, int | None], list[int]] = {}
        for code in np.unique(kind).tolist():
            about = self.kinds[code]
            if not reason(about):
                groups.setdefault((*_name(about), str(about["method"]), about["levels"]), []).append(code)
        for (*key, levels), codes in groups.items():
            places = np.flatnonzero(np.isin(kind, codes))
            soft, binary = (_lists(_column(rows, name, COLUMNS[name]), places, name, levels) for name in _OUTPUTS)
            piece = _Piece(self._count + places, names, numbers[places], soft, binary)
            self._pieces.setdefault((key[0], key[1], key[2]), []).append(piece)
        self._count += len(rows)

    def _kinds(self, rows: pa.Table) -> Array:
        """Return the index of the kind of each row."""
        combined, values = np.zeros(len(rows), np.int64), []
        for name in _KIND:
            column = _column(rows, name, COLUMNS[name])
            if pa.types.is_list(column.type):
                column = pc.binary_join(column, _SEPARATOR)
            codes, known = _encoded(column)
            values.append((codes, known))
            if codes.min() != codes.max():
                combined = np.unique(combined * (len(known) + 1) + codes + 1, return_inverse=True)[1]
        first, inverse = np.unique(combined, return_index=True, return_inverse=True)[1:]
        own = np.empty(len(first), np.int32)
        for place, row in enumerate(first.tolist()):
            kind = tuple(None if codes[row] < 0 else known[codes[row]] for codes, known in values)
            own[place] = index = self._codes["kind"].setdefault(kind, len(self.kinds))
            if index == len(self.kinds):
                about = dict(zip(_KIND, kind, strict=True))
                self.kinds.append(about | {"flags": (about["flags"] or "").split(_SEPARATOR) if about["flags"] else []})
        return own[inverse]

    def _named(self, rows: pa.Table, name: str, names: list[Any]) -> Array:
        """Return the index of each row's value in a list of names, which grows."""
        codes, known = _encoded(_column(rows, name, pa.string()))
        index = self._codes[name]
        own = np.empty(len(known) + 1, np.int32)
        for place, value in enumerate([*known, None]):
            if value is None and not (codes < 0).any():
                continue
            own[place] = index.setdefault(value, len(names))
            if own[place] == len(names):
                names.append(value)
        return own[codes]


def gather(rows: Sequence[Row]) -> dict[Name, Scores]:
    """Return rows by data set and model, which are never pooled, in order of appearance.

    Raises:
        BadInput: there are no rows, or a row lacks a required column.
    """
    for row in rows:
        if missing := [name for name in REQUIRED if name not in row]:
            raise BadInput(f"rows: expected the columns {', '.join(REQUIRED)}, got none of {', '.join(missing)}")
    if not rows:
        raise BadInput("rows: expected at least one, got none; score some images first")
    measures = dict.fromkeys(name for row in rows for name in row if name.startswith(MEASURE))
    types = {name: COLUMNS[name] for name in READ} | dict.fromkeys(measures, pa.float64())
    gathered = Gathered()
    gathered.add(pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()}))
    return gathered.scores(np.arange(len(rows)))


def reason(about: Row) -> str:
    """Return why a row is excluded, or "" if it is valid."""
    if about.get("error"):
        return str(about["error"])
    return "the map is not finite" if "invalid" in (about.get("flags") or ()) else ""


def _name(about: Row) -> Name:
    return str(about["dataset"]), str(about["model"])


def _column(rows: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column of a type, empty if the table lacks it."""
    if name not in rows.column_names:
        return pa.chunked_array([pa.nulls(len(rows), kind)])
    return rows[name].cast(kind)


def _encoded(column: pa.ChunkedArray) -> tuple[Array, list[Any]]:
    """Return the codes (R,) of the values, -1 for an unknown one, and the values that they stand for."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _floats(column: pa.ChunkedArray) -> Array:
    """Return the values of a column, NaN where unknown."""
    values: Array = column.to_numpy()
    return values


def _lists(column: pa.ChunkedArray, places: Array, name: str, levels: int | None) -> Array:
    """Return the lists (R, T) of some rows; NaN of two thresholds where no curve was measured.

    Raises:
        BadInput: a list has another length than levels + 1.
    """
    if levels is None:
        return np.full((len(places), 2), np.nan)
    lists = column.take(pa.array(places)).combine_chunks()
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    if (wrong := lengths[lengths != levels + 1]).size:
        raise BadInput(f"rows: expected {levels + 1} values in {name}, got {wrong.min()}; use the same levels")
    values: Array = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values.reshape(len(places), levels + 1)


def _outputs(parts: Sequence[Array], name: str, levels: int) -> Array:
    if lengths := {part.shape[1] for part in parts} - {levels + 1}:
        raise BadInput(f"rows: expected {levels + 1} values in {name}, got {min(lengths)}; use the same levels")
    return np.concatenate(parts) if parts else np.zeros((0, levels + 1))
