"""Preparation of a recipe: open its data, find the weights it begins with, and fill in its missing keys."""

from pathlib import Path
from typing import NamedTuple

from xaikit.foundation.errors import BadInput
from xaikit.images import digits, synthetic
from xaikit.images.labelled import Split, digit_split, folder_split, synthetic_split
from xaikit.zoo.beginning import Beginning, beginning
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture
from xaikit.zoo.weights import RANDOM


class Prepared(NamedTuple):
    """The recipe with every key filled in, its data, and the weights to begin with; None for random ones."""

    recipe: Recipe
    split: Split
    begin: Beginning | None


def prepare(recipe: Recipe) -> Prepared:
    """Return what a training needs.

    Raises:
        BadInput: the data or the weights cannot be used, or contradict the recipe.
        UnknownName: there is no such architecture, or it has no weights of this name.
    """
    kind = architecture(recipe.arch)
    channels, size = _SHAPES.get(recipe.data, (recipe.channels or kind.channels, recipe.size or kind.size))
    if (recipe.channels or channels, recipe.size or size) != (channels, size):
        raise BadInput(
            f"recipe: expected {channels} channels of size {size} with data {recipe.data!r}, "
            f"got {recipe.channels or channels} of size {recipe.size or size}; leave channels and size out"
        )
    if recipe.empty and recipe.data != "synthetic":
        raise BadInput(f"recipe: expected empty = 0 with data {recipe.data!r}, got {recipe.empty}; leave it out")
    begin = beginning(recipe.arch, recipe.weights, size)
    if recipe.freeze and begin is None:
        raise BadInput(f"freeze: expected trained weights of {recipe.arch}, got random ones; give --weights FILE")
    split = _open(recipe, channels, size)
    if recipe.labels not in (None, split.classes):
        raise BadInput(f"recipe: labels: expected the data's {split.classes}, got {recipe.labels}; leave labels out")
    mean, std = recipe.mean, recipe.std
    if begin is not None:
        mean, std = mean or tuple(begin.mean), std or tuple(begin.std)
    if mean is None or std is None:
        measured = split.training.mean_and_std()
        mean, std = mean or measured[0], std or measured[1]
    if len(mean) != channels or len(std) != channels:
        raise BadInput(f"recipe: expected {channels} values of mean and std, got {len(mean)} and {len(std)}")
    data = recipe.data if recipe.folder is None else recipe.folder.resolve().as_posix()
    keys = {"data": data, "labels": split.classes, "channels": channels, "size": size, "mean": mean, "std": std}
    keys["weights"] = RANDOM if begin is None else begin.weights
    return Prepared(recipe.model_copy(update=keys), split, begin)


_SHAPES = {"synthetic": (3, synthetic.SIZE), "digits": (1, digits.SIZE)}


def _open(recipe: Recipe, channels: int, size: int) -> Split:
    match recipe.data:
        case "synthetic":
            return synthetic_split(recipe.images, recipe.empty, recipe.validation, recipe.seed)
        case "digits":
            return digit_split(recipe.validation, recipe.seed)
        case folder:
            return folder_split(Path(folder), channels, size, recipe.validation, recipe.seed)
