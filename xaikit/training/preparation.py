"""Preparation of a recipe: open its data and fill in its missing keys."""

from pathlib import Path

from xaikit.foundation.errors import BadInput
from xaikit.images import digits, synthetic
from xaikit.images.labelled import Split, digit_split, folder_split, synthetic_split
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture


def prepare(recipe: Recipe) -> tuple[Recipe, Split]:
    """Return the recipe with every key filled in, and its data.

    Raises:
        BadInput: the data cannot be used, or contradicts the recipe.
        UnknownName: there is no such architecture.
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
    split = _open(recipe, channels, size)
    if recipe.labels not in (None, split.classes):
        raise BadInput(f"recipe: labels: expected the data's {split.classes}, got {recipe.labels}; leave labels out")
    mean, std = recipe.mean, recipe.std
    if mean is None or std is None:
        measured = split.training.mean_and_std()
        mean, std = mean or measured[0], std or measured[1]
    if len(mean) != channels or len(std) != channels:
        raise BadInput(f"recipe: expected {channels} values of mean and std, got {len(mean)} and {len(std)}")
    data = recipe.data if recipe.folder is None else recipe.folder.resolve().as_posix()
    keys = {"data": data, "labels": split.classes, "channels": channels, "size": size, "mean": mean, "std": std}
    return recipe.model_copy(update=keys), split


_SHAPES = {"synthetic": (3, synthetic.SIZE), "digits": (1, digits.SIZE)}


def _open(recipe: Recipe, channels: int, size: int) -> Split:
    match recipe.data:
        case "synthetic":
            return synthetic_split(recipe.images, recipe.empty, recipe.validation, recipe.seed)
        case "digits":
            return digit_split(recipe.validation, recipe.seed)
        case folder:
            return folder_split(Path(folder), channels, size, recipe.validation, recipe.seed)
