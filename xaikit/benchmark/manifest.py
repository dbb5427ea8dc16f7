"""The manifest of a results folder: which settings and pictures belong to the report, and how it was computed.

    settings   {setting: its columns}                       rows of other settings are left out
    protocol   {column: identity of its values}             rows without all of them are left out, other columns too
    images     {data set: {model: {image_id: picture}}}     rows of other contents or labels are left out

It is validated when it is read. Importing this file does not import torch, so reports can be written without it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xaikit.benchmark.rows import COLUMNS, CURVE_COLUMNS, CURVES, MEASURE
from xaikit.foundation.errors import BadInput
from xaikit.foundation.toml import first_problem

MOST_THREADS = 1024

Column = str | int | float | bool | None
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class MeasureAbout(BaseModel):
    """A measure of the suite.

    Attributes:
        name: registry name.
        direction: the better direction.
        meaning: the value of one image, in one sentence.
        source: the publication.
    """

    model_config = _STRICT

    name: str = ""
    direction: Literal["higher", "lower", "none"] = "none"
    meaning: str = ""
    source: str = ""


class MethodAbout(BaseModel):
    """A method of the suite.

    Attributes:
        meaning: the map in one sentence.
        formula: the formula in plain text, of one or several lines.
        source: the publication.
    """

    model_config = _STRICT

    meaning: str = ""
    formula: str = ""
    source: str = ""


class Manifest(BaseModel):
    """The contents of manifest.json.

    Attributes:
        version: version of the format.
        title: heading of the report.
        command: command line of the run.
        created: time of the run.
        seed: seed that chooses the pictures of the report.
        threads: number of threads of a worker.
        environment: facts about versions and machine.
        suite: the suite, for the reader.
        methods: the methods by their name in rows.
        measures: the measures by their name in rows, in the order of the suite.
        protocol: identity of each value that a row of the report holds: the measures and the keep curves, by column.
        settings: columns that are the same in all rows of a setting, by setting.
        images: identity of every picture by data set, model and image_id.
    """

    model_config = _STRICT

    version: Literal[1] = Field(default=1, alias="schema")
    title: str = "Benchmark"
    command: str = ""
    created: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    suite: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, MethodAbout] = Field(default_factory=dict)
    measures: dict[str, MeasureAbout] = Field(default_factory=dict)
    protocol: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, dict[str, Column]] = Field(default_factory=dict)
    images: dict[str, dict[str, dict[str, str]]] = Field(default_factory=dict)

    def columns(self) -> tuple[str, ...]:
        """Return the names of a row's columns that belong to the report; every one without a manifest."""
        if not self.protocol:
            return (*COLUMNS, MEASURE)
        curves = () if CURVES in self.protocol else CURVE_COLUMNS
        return (
            *(name for name in COLUMNS if name not in curves),
            *(name for name in self.protocol if name != CURVES),
        )

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Return the manifest of a file, empty if there is no file.

        Raises:
            BadInput: the file is not JSON, or a value has the wrong type.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError) as error:
            raise BadInput(f"{path}: expected JSON, got something else ({error}); remove it") from error
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            raise BadInput(f"{path}: {first_problem(error, _KEYS)}; run the benchmark again") from error
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}: expected JSON, got something else ({error}); remove it") from error

    def values(self) -> dict[str, Any]:
        """Return the contents as JSON-like values."""
        return self.model_dump(mode="json", by_alias=True)


_KEYS = sorted({field.alias or name for name, field in Manifest.model_fields.items()})

CONDITIONS = {
    "model_fingerprint": "the model's weights or preprocessing changed",
    "target_rule": "the target changed",
    "environment": "versions, device or threads changed",
    "conditions": "the model, the data or the batch changed",
}
"""Columns that must be equal in all rows of one number, with the reason why other rows are left out."""


def changed(columns: dict[str, Any], current: dict[str, Any]) -> str:
    """Return why a row or setting is not pooled with a current one, "" if their conditions are equal."""
    reasons = (reason for name, reason in CONDITIONS.items() if columns.get(name) != current.get(name))
    return next(reasons, "")
