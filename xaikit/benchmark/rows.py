"""The schema of a row and its files: one image explained by one method, with its raw confidences.

    Columns            every column with its type; measures follow as `measure.NAME`, a number or None
    shared_columns     columns that are the same for all methods on an image
    own_columns        columns of one method: its map's curves, costs and flags
    values_of          what a row holds: the measures and the curves, each with its identity
    checked            the table of a file of rows; store.py writes them

The name of a file ends with a hash of its content, which is compared when it is read: checksums of Parquet cover its
pages, but neither their headers nor the footer.

Adding a column changes only this file. Importing it does not import torch, so reports can be written without torch.

Shapes: pixels (N, C, H, W) in [0, 1]; labels (N,); masks (N, H, W) bool; o (N, T), T = levels + 1 thresholds.
Units: milliseconds per image, explained in one batch; forwards and backwards count images sent through the network.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xaikit.foundation.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from xaikit.benchmark.score import Images, Run
    from xaikit.measures.removal.curve import KeepCurve
    from xaikit.methods.base import Method
    from xaikit.model.classifier import Classifier
    from xaikit.model.target import Target
    from xaikit.run.attribution import Attribution

Row = dict[str, Any]
Values = frozenset[tuple[str, str]]
"""Column and identity of each value."""
MEASURE = "measure."
CURVES = "curves"
"""Name of the keep curves among the values."""
CURVE_COLUMNS = ("levels", "fill", "floor", "tie_share", "o_soft", "o_binary")
"""Columns of the keep curves, empty where no measure reads them."""
ROW_SCHEMA = 1
"""Version of the columns."""


class Columns(TypedDict, total=False):
    """The columns of a row, in order; an unknown value is None."""

    unit_id: str
    image_id: str
    method: str
    status: str  # "ok" or "error"
    error: str  # the reason, in one line
    setting: str  # identity of everything but the image
    conditions: str  # identity of everything but image, method, seed and values; rows are pooled only where it is equal
    picture: str  # identity of the image: name, content of its file, label
    dataset: str
    image_sha256: str
    label_name: str
    model: str
    weights: str
    model_fingerprint: str
    target_name: str
    target_rule: str
    fill: str
    protocol: str  # the values of the row with their identities, as JSON; of an error those that were tried
    family: str
    params: str  # the method's parameters, as JSON
    found: str  # parameters that the method chose itself, as JSON
    layer: str
    code: str  # identity of a method's code that is not xaikit's
    library: str  # identity of the reference library
    environment: str  # versions, kind of device, threads
    hardware: str  # device that `ms` was measured on
    version: str  # xaikit version
    schema: int
    label: int
    target: int
    levels: int
    seed: int
    batch: int
    threads: int
    y: float  # confidence on the unchanged image
    floor: float  # confidence when everything is removed
    map_mean: float
    tie_share: float
    pointing: float
    energy_inside: float
    ms: float
    forwards: float
    backwards: float
    calibrated: bool
    flags: list[str]
    o_soft: list[float]  # confidence at each threshold, soft masks
    o_binary: list[float]


_ARROW = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[float]: pa.list_(pa.float64()),
}
COLUMNS: dict[str, pa.DataType] = {name: _ARROW[kind] for name, kind in get_type_hints(Columns).items()}
"""Columns of every row and their types in Parquet."""
_ALWAYS = ("unit_id", "setting", "image_id", "method", "status")
_VALID = ("dataset", "model", "family", "y")
_DIGEST = re.compile(r".+-(?P<digest>[0-9a-f]{16})")


class Damaged(BadInput):
    """A file of rows does not hold what was written, or no rows."""


@lru_cache(maxsize=4096)
def values_of(protocol: str | None) -> Values:
    """Return the values of a row from its column `protocol`; none for rows of earlier versions."""
    try:
        values = json.loads(protocol or "{}")
    except ValueError:
        return frozenset()
    return frozenset(values.items()) if isinstance(values, dict) else frozenset()


def digest(content: bytes) -> str:
    """Return 16 hexadecimal digits that identify the content of a file; its name ends with them."""
    return hashlib.sha256(content).hexdigest()[:16]


def parquet(rows: pa.Table) -> bytes:
    """Return a table as the content of a file, with a checksum for each page."""
    stream = io.BytesIO()
    pq.write_table(rows, stream, write_page_checksum=True)
    return stream.getvalue()


def table(file: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Return the table of a file after its checksums and the types of its columns have been compared.

    Args:
        file: path of the file.
        columns: names of columns to read, as far as the file has them, `MEASURE` for all measures; None reads all.

    Raises:
        FileNotFoundError: the file does not exist.
        Damaged: the file is damaged, or does not hold benchmark rows.
        BadInput: the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    named = _DIGEST.fullmatch(file.stem)
    if named and digest(content) != named["digest"]:
        raise Damaged(f"{file}: expected rows, got something else (its checksum differs); run the benchmark again")
    try:
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as opened:
            _check_schema(file, opened.schema_arrow)
            names = opened.schema_arrow.names
            result = opened.read(names if columns is None else [name for name in names if _wanted(name, columns)])
        result.validate(full=True)
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        if isinstance(error, Damaged):
            raise
        reason = " ".join(str(error).split())
        raise Damaged(f"{file}: expected rows, got something else ({reason}); run the benchmark again") from error
    return result


def checked(file: Path, columns: Collection[str] | None = None) -> pa.Table:
    """Return the table of a file whose rows hold what rows must hold.

    Args:
        file: path of the file.
        columns: as in `table`; those that a valid row needs must be among them.

    Raises:
        Damaged: the file is damaged, or does not hold benchmark rows.
        BadInput: the file cannot be read.
    """
    try:
        rows = table(file, columns)
    except FileNotFoundError as error:
        raise BadInput(f"{file}: expected rows, got no file; run the benchmark again") from error
    _check_rows(file, rows)
    return rows


def _wanted(name: str, columns: Collection[str]) -> bool:
    return name in columns or (MEASURE in columns and name.startswith(MEASURE))


def _check_schema(file: Path, schema: pa.Schema) -> None:
    if missing := [name for name in _ALWAYS if name not in schema.names]:
        got = ", ".join(schema.names[:5])
        raise Damaged(
            f"{file}: expected rows of a benchmark, got the columns {got} without {', '.join(missing)}; remove it"
        )
    for column in schema:
        expected = pa.float64() if column.name.startswith(MEASURE) else COLUMNS.get(column.name)
        if expected is not None and not _fits(column.type, expected):
            raise Damaged(f"{file}: {column.name}: expected {expected}, got {column.type}; remove it")


def _fits(actual: pa.DataType, expected: pa.DataType) -> bool:
    """Return whether a column has its type, or holds nothing but null or empty lists."""
    if pa.types.is_list(actual) and pa.types.is_list(expected):
        return _fits(actual.value_type, expected.value_type)
    return bool(pa.types.is_null(actual) or actual == expected)


def _check_rows(file: Path, rows: pa.Table) -> None:
    valid = rows.filter(pc.equal(rows["status"], "ok"))
    empty = [name for name in _ALWAYS if rows[name].null_count]
    if len(valid):
        empty += [name for name in _VALID if name not in valid.column_names or valid[name].null_count]
    if empty:
        raise Damaged(f"{file}: {empty[0]}: expected a value in every row, got an empty one; remove it")
    if others := set(rows["status"].unique().to_pylist()) - {"ok", "error"}:
        raise Damaged(f"{file}: status: expected ok or error, got {min(others)!r}; remove it")
    schemas = set(rows["schema"].unique().to_pylist()) if "schema" in rows.column_names else set()
    if others := schemas - {None, ROW_SCHEMA}:
        raise Damaged(f"{file}: schema: expected {ROW_SCHEMA}, got {min(others)}; use the xaikit that wrote it")
    curves = valid.filter(pc.is_valid(valid["levels"])) if "levels" in valid.column_names else valid[:0]
    levels = curves["levels"].to_numpy() if len(curves) else np.ones(0)
    for name in ("o_soft", "o_binary") if len(curves) else ():
        if name not in curves.column_names or curves[name].null_count:
            raise Damaged(f"{file}: {name}: expected a value in every row, got an empty one; remove it")
        different = levels[(pc.list_value_length(curves[name]).to_numpy() != levels + 1) | (levels < 1)]
        if different.size:
            got = f"{different[0]} + 1 values in o_soft and o_binary"
            raise Damaged(f"{file}: levels: expected {got}; remove it")


def shared_columns(classifier: Classifier, images: Images, pixels: Tensor, target: Target, seed: int) -> list[Row]:
    """Return, for each image, the columns that are the same for all methods."""
    from xaikit.images.hashes import image_hashes

    names = classifier.labels
    labels = [None] * len(images.names) if images.labels is None else images.labels.tolist()
    return [
        {
            "image_id": name,
            "image_sha256": digest,
            "dataset": images.dataset,
            "model": classifier.name,
            "weights": classifier.weights,
            "model_fingerprint": classifier.fingerprint,
            "label": label,
            "label_name": names[label] if names and label is not None and 0 <= label < len(names) else None,
            "target": int(index),
            "target_name": target_name,
            "seed": seed,
        }
        for name, digest, label, index, target_name in zip(
            images.names, image_hashes(pixels), labels, target.index, target.names, strict=True
        )
    ]


def own_columns(
    method: Method,
    runs: Sequence[Run],
    attribution: Attribution,
    maps: Tensor,
    y: Tensor,
    curves: tuple[KeepCurve, KeepCurve] | None,
    masks: Tensor | None,
) -> list[Row]:
    """Return, for each image, the columns that belong to one method; `curves` are soft and binary."""
    from xaikit.foundation.identity import canonical_json

    params = {name: getattr(value, "fingerprint", value) for name, value in method.params.items()}
    evidence = {} if masks is None else _on_evidence(maps, masks.to(maps.device))
    return [
        {
            "family": method.family,
            "params": canonical_json(params),
            "found": canonical_json(_chosen_params(attribution, params, index)),
            "layer": attribution.layer,
            "calibrated": bool(params.get("calibrate")),
            "flags": sorted(attribution.flags[index]),
            "y": float(y[index]),
            **({} if curves is None else _curve_columns(*curves, index)),
            "map_mean": float(maps[index].mean()),
            **{name: float(values[index]) for name, values in evidence.items()},
            "ms": run.ms,
            "hardware": run.hardware,
            "forwards": run.forwards,
            "backwards": run.backwards,
            "batch": run.batch,
        }
        for index, run in enumerate(runs)
    ]


def _curve_columns(soft: KeepCurve, binary: KeepCurve, index: int) -> Row:
    return {
        "levels": soft.protocol.levels,
        "fill": soft.protocol.fill,
        "floor": float(soft.floor[index]),
        "o_soft": soft.o[index].tolist(),
        "o_binary": binary.o[index].tolist(),
        "tie_share": float(soft.tie_share[index]),
    }


def _chosen_params(attribution: Attribution, params: dict[str, Any], index: int) -> dict[str, Any]:
    """Return the parameters that the method chose itself for one image; a list with one value per image is indexed."""
    return {
        name: value[index] if isinstance(value, list) and len(value) == len(attribution) else value
        for name, value in attribution.params.items()
        if value != params.get(name)
    }


def _on_evidence(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Return the share of highest points on the evidence and the share of the map's sum there, each (N,).

    The share of the sum is NaN for a map of zeros.
    """
    highest = maps == maps.amax((1, 2), keepdim=True)
    return {
        "pointing": (highest & masks).sum((1, 2)) / highest.sum((1, 2)),
        "energy_inside": (maps * masks).sum((1, 2)) / maps.sum((1, 2)),
    }
