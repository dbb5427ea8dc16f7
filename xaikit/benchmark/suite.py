"""Suites: the models, data, methods and measures of a benchmark, as a TOML file.

    models   = ["texture-cnn"]
    data     = { kind = "synthetic", count = 48, seed = 2022 }
    methods  = ["grad-cam", { name = "occlusion", params = { window = 9 } }, { family = "gradient", budget = 60 }]
    measures = ["api", { name = "keep-auc", params = { mask = "binary" }, label = "insertion" }]

Missing keys take their defaults. An unknown key, method, measure or model is an error of one line with similar names.
Paths are relative to the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from xaikit.benchmark.defaults import default_controls, default_measures
from xaikit.benchmark.manifest import MOST_THREADS
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.suite_entries import (
    Count,
    Data,
    Part,
    References,
    Seed,
    SuiteFamily,
    SuiteMeasure,
    SuiteMethod,
    SuiteModel,
)
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.paths import relative, shortened
from xaikit.foundation.texts import named
from xaikit.foundation.toml import first_problem, read_toml
from xaikit.images.fills import Fill


def _expand_names(value: Any) -> Any:
    """Replace each bare name by an entry without parameters."""
    if not isinstance(value, list):
        return value
    return [{"name": entry} if isinstance(entry, str) else entry for entry in value]


def _expand_families(value: Any) -> Any:
    """Replace each family by its methods, except those that are also listed by name without a label."""
    if not isinstance(value, list):
        return value
    named = {entry["name"] for entry in value if isinstance(entry, dict) and "name" in entry and not entry.get("label")}
    entries: list[Any] = []
    try:
        for entry in value:
            is_family = isinstance(entry, dict) and "family" in entry
            entries += SuiteFamily(**entry).methods(named) if is_family else [entry]
    except ValidationError as error:
        raise ValueError(first_problem(error, SuiteFamily.model_fields)) from error
    return entries


_Named = BeforeValidator(_expand_names)
_Families = BeforeValidator(_expand_families)


class Suite(Part):
    """The definition of a benchmark.

    Attributes:
        title: heading of the report.
        models: the networks.
        data: the images to explain.
        methods: the methods, in the order of the report; a family is expanded to all its methods.
        controls: the control methods; all by default. If the evidence is known, the oracle and the anti-oracle are
            added unless this is empty.
        measures: the measures; by default those that explain each image once and cost little.
        library: reference library of the models that do not define their own.
        target: "top" for the top class, "label" for the image's label, or one class by index or name.
        levels: number of levels; thresholds of the keep curves are 0, 1 / levels, ..., 1.
        fill: what removed pixels become.
        seeds: seeds of random draws; each seed is measured separately.
        batch: largest number of images in a physical batch; it affects the rounding of a row. Fewer are taken where a
            batch would take longer than seconds, by the size of the network.
        threads: number of threads of one worker; None takes torch's number.
        maps: "keep" saves every attribution, so that new measures do not explain again.
    """

    title: str = ""
    models: Annotated[tuple[SuiteModel, ...], _Named, Field(min_length=1)]
    data: Data
    methods: Annotated[tuple[SuiteMethod, ...], _Families, _Named, Field(min_length=1)]
    controls: Annotated[tuple[SuiteMethod, ...], _Named] = Field(
        default_factory=lambda: tuple(SuiteMethod(name=name) for name in default_controls())
    )
    measures: Annotated[tuple[SuiteMeasure, ...], _Named] = Field(
        default_factory=lambda: tuple(SuiteMeasure(**entry) for entry in default_measures())
    )
    library: References | None = None
    target: str | int = "top"
    levels: Count = 10
    fill: Fill = "mean"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    batch: Count = 16
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None
    maps: Literal["keep", "drop"] = "drop"

    @field_validator("target", mode="before")
    @classmethod
    def _is_a_class(cls, target: Any) -> Any:
        if isinstance(target, bool) or not isinstance(target, str | int):
            raise ValueError(f"expected top, label, or a class by name or index, got {target!r}")  # noqa: TRY004 - pydantic tells ValueErrors
        return target

    @model_validator(mode="after")
    def _has_different_labels(self) -> Suite:
        for kind, titles in (
            ("model", [model.title for model in self.models]),
            ("method", [method.title for method in self.all_methods]),
            ("measure", [measure.title for measure in self.measures]),
        ):
            duplicate = next((title for title in titles if titles.count(title) > 1), None)
            if duplicate is not None:
                raise ValueError(f"expected different {kind}s, got {duplicate!r} twice; give one a label")
        again = next((seed for seed in self.seeds if self.seeds.count(seed) > 1), None)
        if again is not None:
            raise ValueError(f"seeds: expected different numbers, got {again} twice; remove one")
        return self

    @model_validator(mode="after")
    def _has_its_controls(self) -> Suite:
        """Refuse a method under the name of another control, which would be missing in the report."""
        controls = {*ORACLES, *default_controls(), *(control.title for control in self.controls)}
        for method in self.methods:
            if method.title in controls and method.title != method.name:
                raise ValueError(f"label: expected no name of a control, got {method.title!r}; change it")
        return self

    @property
    def all_methods(self) -> tuple[SuiteMethod, ...]:
        """The methods, then the controls that are not among them."""
        titles = {method.title for method in self.methods}
        return self.methods + tuple(control for control in self.controls if control.title not in titles)

    @classmethod
    def of(cls, **values: Any) -> Suite:
        """Return a validated suite.

        Raises:
            BadInput: a key or name is unknown or missing, or a value is invalid.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise BadInput(first_problem(error, _KEYS)) from error

    @classmethod
    def read(cls, path: str | Path) -> Suite:
        """Return the suite of a TOML file.

        Raises:
            BadInput: the file does not exist, is not TOML, or is not a valid suite.
        """
        path = Path(path)
        values = read_toml(path, "suite")
        try:
            return cls.of(**values)._relative_to(path.parent.absolute())
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error

    @property
    def id(self) -> str:
        """The identity of the suite, wherever its files lie: the same on all machines of a cluster."""
        return fingerprint(shortened(self.model_dump(), lambda path: path.name))

    def shown(self) -> dict[str, Any]:
        """Return the suite as JSON-like values for the reader, without absolute paths."""
        values: dict[str, Any] = shortened(self.model_dump(), lambda path: named(relative(path)))
        return values

    def with_data(self, path: Path) -> Suite:
        """Return the suite with the images of another folder."""
        kind = "auto" if self.data.kind == "synthetic" else self.data.kind
        return self.model_copy(update={"data": self.data.model_copy(update={"path": path.absolute(), "kind": kind})})

    def _relative_to(self, folder: Path) -> Suite:
        """Return the suite with its relative paths resolved against a folder."""
        models = tuple(
            model.model_copy(update={"weights": _weights(model.weights, folder), "library": _library(model, folder)})
            for model in self.models
        )
        masks = _path(self.data.masks, folder)
        data = self.data.model_copy(update={"path": _path(self.data.path, folder), "masks": masks})
        return self.model_copy(update={"models": models, "data": data, "library": _library(self, folder)})


def _path(path: Path | None, folder: Path) -> Path | None:
    return None if path is None else folder / path


def _weights(weights: str | None, folder: Path) -> str | None:
    """Return the path of weights that are a file in the folder, other weights unchanged."""
    return str(folder / weights) if weights is not None and (folder / weights).is_file() else weights


def _library(owner: SuiteModel | Suite, folder: Path) -> References | None:
    library = owner.library
    if library is None:
        return None
    data = library.data and library.data.model_copy(update={"path": _path(library.data.path, folder)})
    return library.model_copy(update={"file": _path(library.file, folder), "data": data})


_PARTS = (Suite, Data, References, SuiteModel, SuiteMethod, SuiteFamily, SuiteMeasure)
_KEYS = sorted({key for part in _PARTS for key in part.model_fields})
