"""Suites: what is measured of which images, as a TOML file.

    models   = ["texture-cnn"]
    data     = { kind = "synthetic", count = 48, seed = 2022 }
    methods  = ["grad-cam", { name = "occlusion", params = { window = 9 } }, { family = "gradient", budget = 60 }]
    measures = ["api", { name = "keep-auc", params = { mask = "binary" }, label = "insertion" }]

Whatever a file leaves out has its default; a key, method, measure or model that does not exist is refused in one line
with near names. Paths are looked for beside the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from xaikit.benchmark.defaults import default_controls, default_measures
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
from xaikit.foundation.toml import first_problem, read_toml
from xaikit.images.fills import Fill


def _named(value: Any) -> Any:
    """Let a bare name stand for an entry without parameters."""
    return [{"name": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value


def _spread(value: Any) -> Any:
    """Let a family stand for its methods, but for those that are named without a label of their own."""
    if not isinstance(value, list):
        return value
    named = {one["name"] for one in value if isinstance(one, dict) and "name" in one and not one.get("label")}
    found: list[Any] = []
    try:
        for one in value:
            found += SuiteFamily(**one).methods(named) if isinstance(one, dict) and "family" in one else [one]
    except ValidationError as error:
        raise ValueError(first_problem(error, SuiteFamily.model_fields)) from error
    return found


_Named = BeforeValidator(_named)
_Spread = BeforeValidator(_spread)


class Suite(Part):
    """What is measured.

    Attributes:
        title: heading of the report.
        models: the networks.
        data: what is explained.
        methods: by which methods, in the order of the report; a family stands for all its methods.
        controls: what explains nothing and stands beside the methods; None takes all. Where the evidence is known,
            the oracle and its opposite are added unless this is empty.
        measures: None takes those of MEASURES that need no second explanation and no long computation.
        library: of all models that have none of their own.
        target: "top" class, the "label", or one class by index or name.
        levels: thresholds of the keep curves are 0, 1 / levels, ..., 1.
        fill: what removed pixels become.
        seeds: of random draws; each is a run of its own.
        batch: images in every physical batch; it decides the last bits of a row.
        threads: of one worker; None takes what torch has.
        maps: "keep" writes every attribution, so that other measures need not explain again.
    """

    title: str = ""
    models: Annotated[tuple[SuiteModel, ...], _Named, Field(min_length=1)]
    data: Data
    methods: Annotated[tuple[SuiteMethod, ...], _Spread, _Named, Field(min_length=1)]
    controls: Annotated[tuple[SuiteMethod, ...], _Named] = Field(default_factory=lambda: _entries(default_controls()))
    measures: Annotated[tuple[SuiteMeasure, ...], _Named] = Field(
        default_factory=lambda: tuple(SuiteMeasure(**one) for one in default_measures())
    )
    library: References | None = None
    target: str | int = "top"
    levels: Count = 10
    fill: Fill = "mean"
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    batch: Count = 16
    threads: Count | None = None
    maps: Literal["keep", "drop"] = "drop"

    @model_validator(mode="after")
    def _has_different_labels(self) -> Suite:
        for kind, titles in (
            ("model", [model.name for model in self.models]),
            ("method", [method.title for method in self.all_methods]),
            ("measure", [measure.title for measure in self.measures]),
        ):
            twice = next((title for title in titles if titles.count(title) > 1), None)
            if twice is not None:
                raise ValueError(f"expected different {kind}s, got {twice!r} twice; give one a label")
        return self

    @property
    def all_methods(self) -> tuple[SuiteMethod, ...]:
        """The methods, then those controls that are not among them."""
        chosen = {method.title for method in self.methods}
        return self.methods + tuple(control for control in self.controls if control.title not in chosen)

    @classmethod
    def of(cls, **values: Any) -> Suite:
        """Return a checked suite.

        Raises:
            BadInput: an unknown key or name (with near names), a missing one, or a value that does not fit.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise BadInput(first_problem(error, _KEYS)) from error

    @classmethod
    def read(cls, path: str | Path) -> Suite:
        """Return the suite of a TOML file.

        Raises:
            BadInput: there is no such file, it is no TOML, or no suite.
        """
        path = Path(path)
        values = read_toml(path, "suite")
        try:
            return cls.of(**values)._beside(path.parent.absolute())
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error

    def with_data(self, path: Path) -> Suite:
        """Return the suite on the images of another folder."""
        kind = "auto" if self.data.kind == "synthetic" else self.data.kind
        return self.model_copy(update={"data": self.data.model_copy(update={"path": path.absolute(), "kind": kind})})

    def _beside(self, folder: Path) -> Suite:
        """Return the suite with its paths looked for in a folder."""
        models = tuple(
            model.model_copy(update={"weights": _placed_text(model.weights, folder), "library": _placed(model, folder)})
            for model in self.models
        )
        data = self.data.model_copy(update={"path": _path(self.data.path, folder)})
        return self.model_copy(update={"models": models, "data": data, "library": _placed(self, folder)})


def _entries(names: Iterable[str]) -> tuple[SuiteMethod, ...]:
    return tuple(SuiteMethod(name=name) for name in names)


def _path(path: Path | None, folder: Path) -> Path | None:
    return None if path is None else folder / path


def _placed_text(weights: str | None, folder: Path) -> str | None:
    """Return weights with the folder before them where that is a file."""
    return str(folder / weights) if weights is not None and (folder / weights).is_file() else weights


def _placed(owner: SuiteModel | Suite, folder: Path) -> References | None:
    library = owner.library
    if library is None:
        return None
    data = library.data and library.data.model_copy(update={"path": _path(library.data.path, folder)})
    return library.model_copy(update={"file": _path(library.file, folder), "data": data})


_PARTS = (Suite, Data, References, SuiteModel, SuiteMethod, SuiteFamily, SuiteMeasure)
_KEYS = sorted({key for part in _PARTS for key in part.model_fields})
