"""Weights from files, and networks that were trained here.

    file (.safetensors, or a state dict of torch.save) -> names to float32 tensors -> a blank network

Nothing is unpickled but tensors. A folder that `xaikit train` wrote has recipe.toml, which says how to build the
network, and weights.safetensors.
"""

from __future__ import annotations

import pickle
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.images.reading import Resize
from xaikit.zoo.blank import blank, drawn
from xaikit.zoo.recipe import Recipe

RANDOM = "random"

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
_TORCH_STARTS = (b"PK", b"\x80")  # a zip archive, or a pickle of protocol 2 and later
_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
_REMEDY = "give the state dict of the network, as .safetensors or by torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, and all that a `Classifier` has to know of it.

    Args:
        network: in eval mode, on the CPU.
        weights: what the weights are, for reports: an enum name, a file name, or "random".
        mean: per channel.
        std: per channel.
        resize: how pictures are brought to the network's size.
        labels: names of the classes, if known.
        channels: of the input.
    """

    network: nn.Module
    weights: str
    mean: Sequence[float]
    std: Sequence[float]
    resize: Resize
    labels: Sequence[str] | None = None
    channels: int = 3


# ---- files -----------------------------------------------------------------------------------------------------------


def read_state(path: str | Path) -> OrderedDict[str, Tensor]:
    """Return a file's tensors by name, floating ones as float32.

    A checkpoint that holds the state dict under "state_dict", "model_state_dict", "model" or "network" is opened, and
    the prefixes that DataParallel, torch.compile and training frameworks put before every name are taken off.

    Raises:
        BadInput: the file cannot be read, is no weights file, is damaged, or holds other objects than tensors.
    """
    path = Path(path)
    start = _start(path)
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path, start)
    named = _named_tensors(content, path)
    state = OrderedDict((name, _plain(tensor)) for name, tensor in named.items())
    if hasattr(named, "_metadata"):
        state._metadata = named._metadata  # type: ignore[attr-defined]
    return _without_prefixes(state)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(2)
    except FileNotFoundError as error:
        raise BadInput(f"weights: {path}: no such file; check the path") from error
    except OSError as error:
        what = "got a folder" if path.is_dir() else f"cannot read it ({error.strerror})"
        raise BadInput(f"weights: {path}: expected a weights file, {what}; {_REMEDY}") from error


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        content: Mapping[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, *_DAMAGED) as error:
        raise BadInput(f"weights: {path}: expected a safetensors file, got something else or a damaged one") from error
    return content


def _pickled(path: Path, start: bytes) -> Any:
    if not start.startswith(_TORCH_STARTS):
        what = "an empty file" if not start else "something else"
        raise BadInput(f"weights: {path}: expected a weights file, got {what}; {_REMEDY}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"weights: {path}: refused, it holds other things than tensors, which could run code; {_REMEDY}"
        ) from error
    except _DAMAGED as error:
        raise BadInput(f"weights: {path}: no weights file, or a damaged one; {_REMEDY}") from error


def _named_tensors(content: Any, path: Path) -> Mapping[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"weights: {path}: expected names to tensors, got {type(content).__name__}; {_REMEDY}")
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise BadInput(f"weights: {path}: expected names to tensors, got other things in {_some(others)}; {_REMEDY}")
    return content


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.float() if tensor.is_floating_point() else tensor


def _without_prefixes(state: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)), None)
    if prefix is None:
        return state
    return _without_prefixes(OrderedDict((name.removeprefix(prefix), tensor) for name, tensor in state.items()))


# ---- into a network --------------------------------------------------------------------------------------------------


def fill(network: nn.Module, state: Mapping[str, Tensor], name: str, source: str) -> nn.Module:
    """Put a state dict into a blank network, and return the network.

    Args:
        network: from `blank`.
        state: names to tensors; BatchNorm's batch counters may be missing.
        name: of the architecture, for the message.
        source: where the weights come from, for the message.

    Raises:
        BadInput: names or shapes do not fit; the message says which, and what the weights look like.
    """
    own = network.state_dict()
    counters = {key: torch.tensor(0) for key in own if key.endswith(".num_batches_tracked") and key not in state}
    whole = OrderedDict({**state, **counters})
    whole._metadata = getattr(state, "_metadata", None) or own._metadata  # type: ignore[attr-defined]
    try:
        network.load_state_dict(whole, assign=True)
    except (RuntimeError, ValueError) as error:
        raise BadInput(_misfit(own, whole, name, source)) from error
    return network


def _misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str, source: str) -> str:
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    keys = {"missing": missing, "unexpected": unexpected}
    if not missing and not unexpected:
        keys["of another shape"] = [
            f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in own.items()
            if state[key].shape != tensor.shape
        ]
    found = ", ".join(f"{len(those)} keys {what} ({_some(those)})" for what, those in keys.items() if those)
    return f"weights: {source}: expected those of {name}, got {found or 'another version'}; give weights of {name}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# ---- folders of `xaikit train` ---------------------------------------------------------------------------------------


def trained(folder: str | Path, weights: str | Path | None = None) -> Loaded:
    """Open a folder that `xaikit train` wrote.

    Args:
        folder: with recipe.toml and weights.safetensors.
        weights: another file for the same network, or "random".

    Raises:
        BadInput: the folder is no such folder, or its training is not finished.
    """
    folder = Path(folder)
    if not (folder / "recipe.toml").is_file():
        raise BadInput(f"{folder}: expected recipe.toml in it, got none; give a folder that xaikit train wrote")
    recipe = Recipe.read(folder / "recipe.toml")
    if not recipe.is_complete:
        raise BadInput(
            f"{folder}/recipe.toml: expected labels, channels, size, mean and std; use the one beside weights"
        )
    if weights == RANDOM:
        network, shown = drawn(recipe.build), RANDOM
    else:
        file = folder / "weights.safetensors" if weights is None else Path(weights)
        if weights is None and not file.is_file():
            unfinished = (folder / "checkpoint.pt").is_file()
            remedy = "its training is not finished, run it again" if unfinished else "train it with xaikit train"
            raise BadInput(f"{folder}: expected weights.safetensors in it, got none; {remedy}")
        network, shown = fill(blank(recipe.build), read_state(file), recipe.arch, str(file)), file.name
    assert recipe.size is not None
    assert recipe.channels is not None
    resize = Resize("squash", (recipe.size, recipe.size))
    labels, mean, std = (list(values or ()) for values in (recipe.labels, recipe.mean, recipe.std))
    return Loaded(network, shown, mean, std, resize, labels, recipe.channels)
