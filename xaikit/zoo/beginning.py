"""Weights that a training begins with; the head is always a new one.

    None       torchvision's DEFAULT weights or timm's first tag, for the networks of these; for others "random"
    "random"   drawn from the seed of the recipe
    NAME       a member of torchvision's enum, or a tag of timm's
    FILE       a state dict; of a folder that `xaikit train` wrote also mean and std

The head is every tensor whose shape depends on the number of classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torchvision.models as tv
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.zoo.catalogue import TIMM
from xaikit.zoo.empty_networks import blank
from xaikit.zoo.recipe import Recipe
from xaikit.zoo.registry import architecture
from xaikit.zoo.sources.timm import from_timm
from xaikit.zoo.sources.torchvision import from_enum, from_file
from xaikit.zoo.weights import DEFAULT, RANDOM, Loaded, fill, is_file, read_state

_REMEDY = "give --weights FILE, or --from-scratch to begin with random weights"


@dataclass(frozen=True)
class Beginning:
    """Trained weights, and the preprocessing that they were trained with.

    Args:
        weights: their name or file, for a recipe.
        state: tensors by name, those of the old head among them.
        mean: mean of each channel.
        std: standard deviation of each channel.
    """

    weights: str
    state: Mapping[str, Tensor]
    mean: Sequence[float]
    std: Sequence[float]


def beginning(arch: str, weights: str | None, size: int | None) -> Beginning | None:
    """Return the weights that a training begins with, or None for random ones.

    Args:
        arch: name of the architecture.
        weights: name, file or folder; None is the default.
        size: side of the square input, in pixels.

    Raises:
        BadInput: the weights cannot be had, or the file cannot be used.
        UnknownName: the network has no weights of this name.
    """
    if weights is None and not _has_names(arch):
        weights = RANDOM
    if weights == RANDOM:
        return None
    if weights is not None and is_file(weights):
        return _of_file(arch, Path(str(weights)), size)
    if not _has_names(arch):
        raise BadInput(f"weights: expected a file, as {arch} has no named weights, got {weights!r}; {_REMEDY}")
    try:
        loaded = from_timm(_plain(arch), weights, size) if _plain(arch) else from_enum(arch, weights or DEFAULT)
    except BadInput as error:
        reason = str(error).partition(";")[0]
        raise BadInput(f"weights: expected trained weights to begin with, got none ({reason}); {_REMEDY}") from error
    return _begin(arch, loaded.weights, loaded)


def head_keys(build: Callable[[int], nn.Module]) -> frozenset[str]:
    """Return the names of the tensors whose shape depends on the number of classes.

    Args:
        build: returns the network for a number of classes.
    """
    two, three = blank(lambda: build(2)).state_dict(), blank(lambda: build(3)).state_dict()
    return frozenset(name for name in two if two[name].shape != three[name].shape)


def begin_with(network: nn.Module, begin: Beginning, head: frozenset[str], arch: str) -> None:
    """Load trained weights into a network, except those of its head.

    Raises:
        BadInput: they belong to another network, or to another number of channels or size.
    """
    body = {name: tensor for name, tensor in begin.state.items() if name not in head}
    own = {name: tensor for name, tensor in network.state_dict().items() if name in head}
    fill(network, body | own, arch, begin.weights)


def _of_file(arch: str, path: Path, size: int | None) -> Beginning:
    file = path / "weights.safetensors" if path.is_dir() else path
    name = file.resolve().as_posix()
    recipe = file.parent / "recipe.toml"
    if recipe.is_file():
        trained = Recipe.read(recipe)
        if trained.arch != arch:
            raise BadInput(f"weights: {path}: expected those of {arch}, got those of {trained.arch}; give others")
        if trained.mean is not None and trained.std is not None:
            return Beginning(name, read_state(file), trained.mean, trained.std)
    if _plain(arch):
        return _begin(arch, name, from_timm(_plain(arch), file, size))
    if _has_names(arch):
        return _begin(arch, name, from_file(arch, file, size))
    kind = architecture(arch)
    return Beginning(name, read_state(file), kind.mean, kind.std)


def _begin(arch: str, weights: str, loaded: Loaded) -> Beginning:
    """Return the weights of a network; networks that rescale their input are trained without, on mean and std 0.5."""
    mean, std = loaded.mean, loaded.std
    if getattr(loaded.network, "transform_input", False):
        mean = std = (0.5, 0.5, 0.5)
    kind = architecture(arch)
    return Beginning(weights, loaded.network.state_dict(), mean or kind.mean, std or kind.std)


def _has_names(arch: str) -> bool:
    return arch.startswith(TIMM) or arch in tv.list_models(module=tv)


def _plain(arch: str) -> str:
    """Return timm's name of a network, or "" if it is not timm's."""
    return arch.removeprefix(TIMM) if arch.startswith(TIMM) else ""
