"""Recipes: the settings of one training run, in a flat TOML file.

    arch = "resnet18"
    data = "photos"          # "synthetic", "digits", or a folder: DIR/<class>/*.jpg, or DIR/train, DIR/val and DIR/test
    epochs = 12

Missing keys are filled in when the recipe runs: weights, channels and size from the architecture, labels from the data,
mean and std from the weights or else from the training images. The file written next to the weights has every key, so
it reproduces the run and is enough to rebuild the network (arch, labels, channels, size, mean, std).
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import write_text
from xaikit.foundation.toml import first_problem, read_toml
from xaikit.zoo.registry import architecture

_MEANT = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "bs": "batch_size",
    "batch": "batch_size",
    "wd": "weight_decay",
    "model": "arch",
    "network": "arch",
    "pretrained": "weights",
    "classes": "labels",
    "color": "colour",
    "rotation": "rotate",
    "image_size": "size",
}
"""Words for a key that its spelling does not suggest."""

Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """The settings of one training run.

    Attributes:
        arch: name of the architecture: lenet5, texture-cnn, texture-vit, a torchvision network, or timm/NAME.
        data: "synthetic", "digits", or the folder of the images.
        weights: weights to begin with (beginning.py): "random", a name of torchvision's or timm's, a file, or a folder
            that `xaikit train` wrote; None is the default of torchvision's and timm's networks; "random" for others.
        freeze: whether the head alone is trained; the rest keeps its weights and the statistics of its BatchNorm.
        labels: names of the classes, in the order of the logits; None takes them from the data.
        channels: number of input channels; None is the architecture's.
        size: side of the square input, in pixels; None is the architecture's, or that of the built-in images.
        mean: mean subtracted from each channel; None is that of the weights, or else measured on the training images.
        std: standard deviation each channel is divided by; None is that of the weights, or else measured.
        epochs: passes over the training images.
        restarts: epochs after which the best weights so far start a new optimiser and a new rise and fall of the
            learning rate, as for a finished run that is extended.
        batch_size: images per step.
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        learning_rate: peak learning rate, reached after 30 % of the steps; it falls to zero at the end. A new head on
            trained weights learns at ten times the rate.
        weight_decay: weight decay of all parameters.
        class_weights: "balanced" weights each class by the inverse of its frequency, "equal" does not.
        validation: share of every class that is held out.
        masks: share of a batch that is multiplied by random masks.
        flip: share of a batch that is mirrored.
        crop: smallest share of a picture's area in a random crop, which is resized to the size; 1 crops none.
        rotate: largest angle of a random rotation, in degrees.
        colour: largest relative change of brightness and of contrast.
        images: number of synthetic images, training and validation together.
        empty: synthetic images without an object, as a share of the training images; their target is 1 / classes.
        seed: seed of the split, initial weights, order, augmentation and synthetic images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    arch: str
    data: str
    weights: str | None = None
    freeze: bool = False
    labels: tuple[str, ...] | None = None
    channels: Annotated[int, Field(ge=1)] | None = None
    size: Annotated[int, Field(ge=8)] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    epochs: Annotated[int, Field(ge=1)] = 30
    restarts: tuple[Annotated[int, Field(ge=1)], ...] = ()
    batch_size: Annotated[int, Field(ge=2)] = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    class_weights: Literal["balanced", "equal"] = "balanced"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    masks: Share = 0.0
    flip: Share = 0.0
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    colour: Share = 0.0
    images: Annotated[int, Field(ge=60)] = 2750
    empty: Share = 0.0
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.freeze and self.weights == "random":
            raise ValueError("freeze: expected trained weights to keep, got random ones; leave freeze out")
        if list(self.restarts) != sorted({*self.restarts} & {*range(self.epochs)}):
            raise ValueError(f"restarts: expected rising epochs below {self.epochs}, got {list(self.restarts)}")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether the recipe has every key needed to build the network, as the file next to the weights does."""
        return None not in (self.labels, self.channels, self.size, self.mean, self.std)

    def build(self) -> nn.Module:
        """Return the network of a complete recipe, with random weights."""
        assert self.labels is not None
        assert self.channels is not None
        assert self.size is not None
        return architecture(self.arch).build(len(self.labels), self.channels, self.size)

    @property
    def folder(self) -> Path | None:
        """The image folder, or None for built-in images."""
        return None if self.data in ("synthetic", "digits") else Path(self.data)

    @classmethod
    def of(cls, **values: Any) -> Recipe:
        """Return a validated recipe.

        Raises:
            BadInput: a key is unknown (the message suggests similar ones) or missing, or a value is invalid.
        """
        for name in values:
            if name in _MEANT:
                raise BadInput(f"recipe: unknown key {name!r}; did you mean {_MEANT[name]}?")
        try:
            return cls(**values)
        except ValidationError as error:
            raise BadInput(f"recipe: {first_problem(error, cls.model_fields)}") from error

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Return the recipe in a TOML file; relative paths of data and weights are relative to it.

        Raises:
            BadInput: the file does not exist, is not TOML, or is not a recipe.
        """
        path = Path(path)
        values = read_toml(path, "recipe")
        try:
            recipe = cls.of(**values)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        update = {}
        if recipe.folder is not None:
            update["data"] = (path.parent / recipe.folder).resolve().as_posix()
        if recipe.weights and (path.parent / recipe.weights).exists():
            update["weights"] = (path.parent / recipe.weights).resolve().as_posix()
        return recipe.model_copy(update=update)

    def write(self, path: str | Path) -> None:
        """Write the recipe as TOML, unless the file already holds an equal recipe."""
        path = Path(path)
        with suppress(BadInput):
            if Recipe.read(path) == self:
                return
        values = self.model_dump(exclude_none=True)
        write_text(path, "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()))
