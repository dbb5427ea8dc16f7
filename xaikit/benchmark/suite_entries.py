"""The parts of a suite: data, references, models, methods and measures, each checked when it is read.

Every part refuses keys that it does not have; names and parameters of methods and measures have to exist.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, Literal

import torchvision.models
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torchvision.models import list_models

from xaikit.foundation.errors import BadInput, UnknownName, XaikitError
from xaikit.foundation.parameters import Parameters
from xaikit.images.folders import sha256
from xaikit.measures.base import MEASURES, Measure
from xaikit.methods.base import METHODS, LayerMethod, Method
from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost
from xaikit.zoo.catalogue import models

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """What all parts have in common: no unknown keys, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Part):
    """Where images come from.

    Attributes:
        kind: "synthetic" draws texture in shape, whose evidence is known; "classes" is a folder with one sub-folder a
            class, "images" any folder of images, "auto" the one or the other as the model's classes fit.
        name: of the dataset in rows; None is the folder's name.
        path: the folder.
        labels: CSV beside the images with the columns file and class_index, for kind "images".
        resize: how pictures become inputs; "squash" scales both sides.
        count: number of synthetic images.
        seed: of the drawing.
        share: only images whose names' hash, as a number from 0 to 1, lies between the two; [0, 0.5] and [0.5, 1] are
            disjoint halves of a folder, such as what is explained and the references of a library.
        limit: most images, chosen by their names alone, so that a larger limit keeps those of a smaller one.
    """

    kind: Literal["synthetic", "classes", "images", "auto"]
    name: str | None = None
    path: Path | None = None
    labels: str | None = None
    resize: Literal["weights", "squash"] = "weights"
    count: Count = 48
    seed: Seed = 0
    share: tuple[Share, Share] = (0.0, 1.0)
    limit: Count | None = None

    @model_validator(mode="after")
    def _has_a_share(self) -> Data:
        if not self.share[0] < self.share[1]:
            raise ValueError(f"share: expected a lower and a higher number, got {list(self.share)}")
        return self

    @model_validator(mode="after")
    def _has_path(self) -> Data:
        if (self.path is None) != (self.kind == "synthetic"):
            raise ValueError(f"expected a path with kind {self.kind!r}" if self.path is None else "expected no path")
        return self

    @property
    def title(self) -> str:
        """Name of the dataset."""
        return self.name or ("texture in shape" if self.path is None else self.path.resolve().name)


class References(Part):
    """Reference images of the methods that compare with some: a library file, or images to build one from.

    Attributes:
        file: what `xaikit library` wrote.
        data: labelled images to choose from; not those that are explained.
        references: kept for each class.
    """

    file: Path | None = None
    data: Data | None = None
    references: Count = 30

    @model_validator(mode="after")
    def _has_one(self) -> References:
        if (self.file is None) == (self.data is None):
            raise ValueError("expected file or data, and not both")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What the references depend on, wherever they lie."""
        if self.data is None:
            assert self.file is not None
            return {"file": sha256(self.file)}
        return {
            "references": self.references,
            "data": self.data.model_dump(exclude={"path"}) | {"name": self.data.title},
        }


class SuiteModel(Part):
    """One model: what `xaikit.load` takes.

    Attributes:
        name: of the model.
        weights: file or enum name; None is the model's own.
        layer: target layer; None finds it.
        library: of the methods that need one; None leaves it to the methods' default.
    """

    name: str
    weights: str | None = None
    layer: str | None = None
    library: References | None = None

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        known = {*models(), *list_models(module=torchvision.models)}
        if name not in known and not Path(name).exists():
            raise ValueError(str(UnknownName("model", name, known, "`xaikit list models` shows them")))
        return name


class SuiteMethod(Part):
    """One method with its parameters.

    Attributes:
        name: registry name.
        params: parameters that differ from the defaults; "none" is None, which TOML has no word for.
        label: what rows call it; empty is the name.
        budget: most passes for one image by its declared cost, a backward counted twice; where it costs more it is
            left out. None asks for it whatever it costs.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    label: str = ""
    budget: Annotated[float, Field(gt=0)] | None = None

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        return _known(name, METHODS.get)

    @field_validator("params")
    @classmethod
    def _spelled(cls, params: dict[str, Any]) -> dict[str, Any]:
        return {name: None if value == "none" else value for name, value in params.items()}

    @model_validator(mode="after")
    def _has_parameters(self) -> SuiteMethod:
        _check_parameters(METHODS.get(self.name), self.params)
        return self

    @property
    def title(self) -> str:
        """What rows call it."""
        return self.label or self.name

    def affords(self, cost: Cost) -> bool:
        """Say whether the budget allows a cost."""
        return self.budget is None or cost.forwards + 2 * cost.backwards <= self.budget

    def build(self, classifier: Classifier, layer: str | None = None, library: Any = None) -> Method:
        """Return the method bound to a classifier; one that needs a library takes the one given."""
        kind = METHODS.get(self.name)
        extra = {"library": library} if library is not None and "library" in kind.needs else {}
        return kind.build(classifier, layer if issubclass(kind, LayerMethod) else None, **(extra | self.params))


_EXPLAINING = ("activation", "gradient", "decomposition", "perturbation")


class SuiteFamily(Part):
    """All native methods of a family, each by itself as if it were named.

    Attributes:
        family: of the methods; "all" is every family but the controls.
        budget: of each method.
    """

    family: Literal["activation", "gradient", "decomposition", "perturbation", "all"]
    budget: Annotated[float, Field(gt=0)] | None = None

    def methods(self, named: Container[str]) -> list[dict[str, Any]]:
        """Return its methods as entries, but for those that are named already."""
        families = (
            {"activation", "gradient", "decomposition", "perturbation"} if self.family == "all" else {self.family}
        )
        names = METHODS.names(lambda entry: entry.family in families)
        return [{"name": name, "budget": self.budget} for name in names if name not in named]


class SuiteMeasure(Part):
    """One measure with its parameters.

    Attributes:
        name: registry name.
        params: parameters that differ from the defaults.
        label: what rows call it; empty is the name.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    label: str = ""

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        return _known(name, MEASURES.get)

    @model_validator(mode="after")
    def _has_parameters(self) -> SuiteMeasure:
        _check_parameters(MEASURES.get(self.name), self.params)
        return self

    @property
    def title(self) -> str:
        """What rows call it."""
        return self.label or self.name

    def build(self) -> Measure:
        """Return the measure."""
        return MEASURES.get(self.name)(**self.params)


def _known(name: str, get: Callable[[str], Any]) -> str:
    """Refuse a name that a registry does not have, in the words of the registry."""
    try:
        get(name)
    except XaikitError as error:
        raise ValueError(str(error)) from error
    return name


def _check_parameters(kind: type[Parameters], params: dict[str, Any]) -> None:
    """Refuse names and values that a method or a measure does not take, in its own words."""
    try:
        kind.check_names(params)
        for name, value in params.items():
            kind.checked(name, value)
    except BadInput as error:
        raise ValueError(str(error)) from error
