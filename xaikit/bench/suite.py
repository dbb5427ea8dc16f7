"""Suites: what is scored, as a TOML file.

    model = "texture-cnn"
    methods = [{ name = "grad-cam" }, { name = "occlusion", params = { window = 9 } }]
    images = { data = "synthetic", count = 48, seed = 2022 }

Whatever a file leaves out has its default; a key that no part of a suite has is refused.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xaikit.core.classifier import Classifier
from xaikit.core.errors import BadInput, near_names
from xaikit.core.method import METHODS, Method

__all__ = ["Drawn", "References", "Suite", "SuiteMethod"]

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Drawn(_Part):
    """Images that are drawn, not read.

    Attributes:
        data: "synthetic" is texture in shape, whose evidence is known.
        count: number of images.
        seed: of the drawing.
    """

    data: Literal["synthetic"]
    count: Count
    seed: Seed = 0


class References(_Part):
    """Images from which the reference library is built, drawn like the others.

    Attributes:
        count: number of images to choose from.
        seed: of the drawing; not that of the images.
        references: kept for each class.
    """

    count: Count
    seed: Seed
    references: Count = 30


class SuiteMethod(_Part):
    """One method with its parameters.

    Attributes:
        name: registry name.
        params: parameters that differ from the defaults.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class Suite(_Part):
    """What is scored.

    Attributes:
        model: name of the model.
        images: what is explained.
        methods: by which methods, in the order of the report.
        library: references of the methods that need some; None leaves them to the methods' default.
        seed: of random draws.
    """

    model: str
    images: Drawn
    methods: Annotated[tuple[SuiteMethod, ...], Field(min_length=1)]
    library: References | None = None
    seed: Seed = 0

    @classmethod
    def read(cls, path: str | Path) -> Suite:
        """Return the suite of a TOML file.

        Raises:
            BadInput: there is no such file, it is no TOML, has an unknown key (with near names), or a value that
                does not fit.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"{path}: expected a suite file, got none ({error.strerror}); check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: expected TOML, got something else ({error}); correct it") from error
        try:
            return cls(**values)
        except ValidationError as error:
            raise BadInput(f"{path}: {_first_problem(error)}") from error

    def bind(self, classifier: Classifier, library: Any = None) -> list[Method]:
        """Return the methods bound to a classifier; those that need a library take the one given.

        Raises:
            UnknownName: no such method.
            BadInput: a parameter that a method does not have.
        """
        bound = []
        for entry in self.methods:
            kind = METHODS.get(entry.name)
            extra = {"library": library} if library is not None and "library" in kind.needs else {}
            bound.append(kind.build(classifier, **(extra | entry.params)))
        return bound


_KEYS = sorted({name for part in (Suite, Drawn, References, SuiteMethod) for name in part.model_fields})


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        close = near_names(str(problem["loc"][-1]), _KEYS)
        remedy = f"did you mean {' or '.join(close)}?" if close else "leave it out"
        return f"unknown key {key!r}; {remedy}"
    if problem["type"] == "missing":
        return f"expected the key {key!r}, got none; add it"
    return f"{key}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, got {problem['input']!r}; change it"
