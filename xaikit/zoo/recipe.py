"""Recipes: what one training run does, as a flat TOML file.

    arch = "lenet5"
    data = "digits"          # "synthetic", "digits", or a folder: DIR/<class>/*.jpg, or DIR/train and DIR/val
    epochs = 12

What a recipe leaves out is filled in when it runs: channels and size from the architecture, labels from the data, mean
and std from the training images. The file written beside the weights has every key, so it repeats the run and is all
that is needed to build the network again: arch, labels, channels, size, mean, std.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import write_text
from xaikit.foundation.toml import first_problem, read_toml
from xaikit.zoo.registry import architecture

Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """One training run.

    Attributes:
        arch: name of the architecture: lenet5, texture-cnn, or a torchvision network.
        data: "synthetic", "digits", or the folder of the images.
        labels: names of the classes, in the order of the logits; found in the data.
        channels: channels of the input; None for the architecture's own number.
        size: side of the square input; None for the architecture's own, or that of the built-in images.
        mean: per channel, what normalisation subtracts; measured on the training images if None.
        std: per channel, what normalisation divides by; measured if None.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: AdamW, or stochastic gradient descent with Nesterov momentum 0.9.
        learning_rate: the peak, reached after 30 % of the steps; zero at the end.
        weight_decay: of all weights.
        class_weights: "balanced" weighs a class by the inverse of its frequency, "equal" does not.
        validation: share of every class that is held out.
        masks: share of a batch that is multiplied by random masks.
        flip: share of a batch that is mirrored.
        images: number of synthetic images drawn, training and validation together.
        empty: synthetic images without an object, as a share of the training images; their answer is 1 / classes.
        seed: of the split, the initial weights, the order, the augmentation and the synthetic images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    arch: str
    data: str
    labels: tuple[str, ...] | None = None
    channels: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8)] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=2)] = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    class_weights: Literal["balanced", "equal"] = "balanced"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    masks: Share = 0.0
    flip: Share = 0.0
    images: Annotated[int, Field(ge=60)] = 2750
    empty: Share = 0.0
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def is_complete(self) -> bool:
        """Whether the recipe says all that building the network takes, as the file beside the weights does."""
        return None not in (self.labels, self.channels, self.size, self.mean, self.std)

    def build(self) -> nn.Module:
        """Return the network of a complete recipe, with random weights."""
        assert self.labels is not None
        assert self.channels is not None
        assert self.size is not None
        return architecture(self.arch).build(len(self.labels), self.channels, self.size)

    @property
    def folder(self) -> Path | None:
        """The image folder, or None where the images are built in."""
        return None if self.data in ("synthetic", "digits") else Path(self.data)

    @classmethod
    def of(cls, **values: Any) -> Recipe:
        """Return a checked recipe.

        Raises:
            BadInput: an unknown key (with near names), a missing one, or a value that does not fit.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise BadInput(f"recipe: {first_problem(error, cls.model_fields)}") from error

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Return the recipe of a TOML file; a relative data folder is looked for beside the file.

        Raises:
            BadInput: there is no such file, it is no TOML, or no recipe.
        """
        path = Path(path)
        values = read_toml(path, "recipe")
        try:
            recipe = cls.of(**values)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        if recipe.folder is None:
            return recipe
        return recipe.model_copy(update={"data": (path.parent / recipe.folder).resolve().as_posix()})

    def write(self, path: str | Path) -> None:
        """Write the recipe as TOML; a file that already says the same is left as it is."""
        path = Path(path)
        with suppress(BadInput):
            if Recipe.read(path) == self:
                return
        values = self.model_dump(exclude_none=True)
        write_text(path, "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()))
