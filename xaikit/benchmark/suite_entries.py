"""The parts of a suite: data, references, models, methods and measures, validated when they are read.

Every part rejects unknown keys and unknown names and parameters of methods and measures.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, Literal

import torchvision.models
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from torchvision.models import list_models

from xaikit.foundation.errors import BadInput, UnknownName, XaikitError
from xaikit.foundation.parameters import Parameters
from xaikit.foundation.texts import named
from xaikit.measures.base import MEASURES, Measure
from xaikit.methods.base import METHODS, LayerMethod, Method
from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost
from xaikit.zoo.catalogue import is_of_file, is_of_package, models, title

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """Base class of all parts: immutable, rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Part):
    """The images of a benchmark.

    Attributes:
        kind: "synthetic" draws textures in shapes, whose evidence is known; "classes" is a folder with one sub-folder
            per class, "images" any folder of images, "auto" either, with labels only if they fit the model's classes;
            "given" are images of the caller.
        name: name of the dataset in rows; None takes the folder's name.
        path: path of the folder.
        labels: CSV file in the folder with the columns file and class_index, for kind "images".
        masks: the evidence of the pictures: a folder of masks under the same names and of the same sizes, where all but
            black is evidence; a CSV file of boxes with the columns file, left, top, right and bottom in pixels; or a
            JSON file of COCO annotations.
        resize: how images are resized: "weights" as the model's weights ask, "squash" scales both sides to its size.
        count: number of synthetic images.
        seed: seed of the synthetic images.
        share: lower (included) and upper bound (excluded) on the hash of an image's name, as a number in [0, 1);
            [0, 0.5] and [0.5, 1] are disjoint halves of a folder, for example one to explain and one for a library.
        limit: maximal number of images, chosen by their names, so that a larger limit only adds images.
    """

    kind: Literal["synthetic", "classes", "images", "auto", "given"]
    name: str | None = None
    path: Path | None = None
    labels: str | None = None
    masks: Path | None = None
    resize: Literal["weights", "squash"] = "weights"
    count: Count = 48
    seed: Seed = 0
    share: tuple[Share, Share] = (0.0, 1.0)
    limit: Count | None = None

    @model_validator(mode="after")
    def _has_a_share(self) -> Data:
        if not self.share[0] < self.share[1]:
            raise ValueError(f"share: expected a lower and a higher number, in this order, got {list(self.share)}")
        return self

    @model_validator(mode="after")
    def _has_path(self) -> Data:
        if (self.path is None) != (self.kind in ("synthetic", "given")):
            raise ValueError(f"expected a path with kind {self.kind!r}" if self.path is None else "expected no path")
        if self.masks is not None and self.path is None:
            raise ValueError(f"masks: expected none with kind {self.kind!r}, got {self.masks}; remove it")
        return self

    @property
    def title(self) -> str:
        """Name of the dataset."""
        return named(self.name or ("texture in shape" if self.path is None else self.path.resolve().name))


class References(Part):
    """The reference images that some methods compare with: a library file, or images to build a library from.

    Attributes:
        file: library file written by `xaikit library`.
        data: labelled images to choose from; must not be the explained images.
        references: number of references kept for each class.
    """

    file: Path | None = None
    data: Data | None = None
    references: Count = 30

    @model_validator(mode="after")
    def _has_one(self) -> References:
        if (self.file is None) == (self.data is None):
            raise ValueError("expected file or data, and not both")
        return self


class SuiteModel(Part):
    """One model, as `xaikit.load` takes it.

    Attributes:
        own: whether it is a classifier of the caller, which has only a name here.
        name: name of the model.
        weights: weights file or enum name; None takes the model's default weights.
        layer: target layer; None takes the model's default layer.
        library: reference library for the methods that need one; None takes the suite's, if any.
        label: name of the model in rows; empty takes the name, or the folder's name.
    """

    own: bool = False
    name: str
    weights: str | None = None
    layer: str | None = None
    library: References | None = None
    label: str = ""

    @property
    def title(self) -> str:
        """Name of the model in rows."""
        return named(self.label or title(self.name))

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str, info: ValidationInfo) -> str:
        if info.data.get("own"):
            return name
        known = {*models(), *list_models(module=torchvision.models)}
        if name not in known and not (is_of_package(name) or is_of_file(name) or Path(name).exists()):
            raise ValueError(str(UnknownName("model", name, known, "`xaikit list models` shows them")))
        return name


class SuiteMethod(Part):
    """One method with its parameters.

    Attributes:
        name: registry name.
        params: parameters that differ from the defaults; the string "none" is None, which TOML cannot express.
        label: name of the method in rows; empty takes the registry name.
        budget: maximal declared passes per image, a backward counted twice; a method that costs more is skipped.
            None sets no limit.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    label: str = ""
    budget: Annotated[float, Field(gt=0)] | None = None

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        return _registered(name, METHODS.get)

    @field_validator("params")
    @classmethod
    def _with_none(cls, params: dict[str, Any]) -> dict[str, Any]:
        return {name: None if value == "none" else value for name, value in params.items()}

    @model_validator(mode="after")
    def _has_parameters(self) -> SuiteMethod:
        if "library" in self.params:
            raise ValueError("params: expected no library, got one; name it under [library] of the suite or the model")
        _check_parameters(METHODS.get(self.name), self.params)
        return self

    @property
    def title(self) -> str:
        """Name of the method in rows."""
        return self.label or self.name

    def affords(self, cost: Cost) -> bool:
        """Return whether a cost is within the budget."""
        return self.budget is None or cost.forwards + 2 * cost.backwards <= self.budget

    def build(self, classifier: Classifier, layer: str | None = None, library: Any = None) -> Method:
        """Return the method bound to a classifier; `library` is passed to methods that need one."""
        kind = METHODS.get(self.name)
        extra = {"library": library} if library is not None and "library" in kind.needs else {}
        return kind.build(classifier, layer if issubclass(kind, LayerMethod) else None, **(extra | self.params))


_EXPLAINING = ("activation", "gradient", "decomposition", "perturbation")


class SuiteFamily(Part):
    """All native methods of a family, as if each were listed by name.

    Attributes:
        family: name of the family; "all" is every family except the controls, and attention, which few networks have.
        budget: budget of each method.
    """

    family: Literal["activation", "attention", "gradient", "decomposition", "perturbation", "all"]
    budget: Annotated[float, Field(gt=0)] | None = None

    def methods(self, named: Container[str]) -> list[dict[str, Any]]:
        """Return an entry for each method of the family that is not in `named`."""
        families = _EXPLAINING if self.family == "all" else (self.family,)
        names = METHODS.names(lambda entry: entry.family in families)
        return [{"name": name, "budget": self.budget} for name in names if name not in named]


class SuiteMeasure(Part):
    """One measure with its parameters.

    Attributes:
        name: registry name.
        params: parameters that differ from the defaults.
        label: name of the measure in rows; empty takes the registry name.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    label: str = ""

    @field_validator("name")
    @classmethod
    def _exists(cls, name: str) -> str:
        return _registered(name, MEASURES.get)

    @model_validator(mode="after")
    def _has_parameters(self) -> SuiteMeasure:
        _check_parameters(MEASURES.get(self.name), self.params)
        return self

    @property
    def title(self) -> str:
        """Name of the measure in rows."""
        return self.label or self.name

    def build(self) -> Measure:
        """Return the measure."""
        return MEASURES.get(self.name)(**self.params)


def _registered(name: str, get: Callable[[str], Any]) -> str:
    """Return the name that a registry has for a name; raise ValueError with the registry's message if it has none."""
    try:
        return str(get(name).name)
    except XaikitError as error:
        raise ValueError(str(error)) from error


def _check_parameters(kind: type[Parameters], params: dict[str, Any]) -> None:
    """Raise ValueError with the class's message if a method or measure does not accept the parameters."""
    try:
        kind.check_names(params)
        for name, value in params.items():
            kind.checked(name, value)
    except BadInput as error:
        raise ValueError(str(error)) from error
