"""Weights from files, and networks trained by xaikit.

    file (.safetensors, or a state dict of torch.save) -> float32 tensors by name -> a blank network

Only tensors are unpickled. A folder written by `xaikit train` has weights.safetensors and recipe.toml, from which the
network is built.
"""

import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput
from xaikit.foundation.files import kind_of
from xaikit.images.reading import Resize
from xaikit.zoo.empty_networks import blank, untrained
from xaikit.zoo.recipe import Recipe

RANDOM = "random"
DEFAULT = "DEFAULT"

_SUFFIXES = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".tar"})
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
_MOST_GROWTH = 16  # largest ratio of tensors in float32 to their file; half precision and shared weights need less
_REMEDY = "give the state dict of the network, as .safetensors or by torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, and everything that a `Classifier` needs to know about it.

    Args:
        network: network in eval mode, on the CPU.
        weights: name of the weights for reports: an enum name, a file name, or "random".
        mean: mean of each channel, if known.
        std: standard deviation of each channel, if known.
        resize: how images are resized to the network's input size, if known.
        labels: names of the classes, if known.
        channels: number of input channels.
    """

    network: nn.Module
    weights: str
    mean: Sequence[float] | None
    std: Sequence[float] | None
    resize: Resize | None
    labels: Sequence[str] | None = None
    channels: int = 3


def is_file(weights: str | Path | None) -> bool:
    """Return whether weights are given as a file, which need not exist, and not by a name."""
    path = Path(weights or "")
    return isinstance(weights, Path) or path.exists() or len(path.parts) > 1 or path.suffix.lower() in _SUFFIXES


def read_state(path: str | Path) -> OrderedDict[str, Tensor]:
    """Return a file's tensors by name, floating-point tensors as float32.

    The state dict may be nested in a checkpoint under "state_dict", "model_state_dict", "model" or "network". Prefixes
    that DataParallel, torch.compile and training frameworks add to every name are removed.

    Raises:
        BadInput: the file cannot be read, is not a weights file, is damaged, or holds objects other than tensors.
    """
    path = Path(path)
    start = _start(path)
    content = _safetensors(path) if path.suffix.lower() == ".safetensors" else _pickled(path, start)
    named = _named_tensors(content, path)
    _check_size(named.values(), path)
    state = OrderedDict((name, _plain(tensor)) for name, tensor in named.items())
    if hasattr(named, "_metadata"):
        state._metadata = named._metadata  # type: ignore[attr-defined]
    return _without_prefixes(state)


def _check_size(tensors: Iterable[Tensor], path: Path) -> None:
    """Check that tensors are not far larger than their file, as views that repeat one number are."""
    size = sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in tensors)
    if size > _MOST_GROWTH * path.stat().st_size + 2**20:
        raise BadInput(
            f"weights: {path}: expected tensors of about the file's size, got {size / 2**20:,.0f} MiB in "
            f"{path.stat().st_size / 2**20:,.1f} MiB; {_REMEDY}"
        )


def _check_archive(path: Path) -> None:
    """Check that an archive holds its content as it is, as torch.save writes it; a compressed one can be a bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise BadInput(f"weights: {path}: expected a weights file, got a damaged or another file; {_REMEDY}") from error
    if size > path.stat().st_size:
        raise BadInput(
            f"weights: {path}: expected an archive of torch.save, got one that unpacks to {size / 2**20:,.0f} MiB; "
            f"{_REMEDY}"
        )


def _start(path: Path) -> bytes:
    if (kind := kind_of(path)) not in ("file", "folder", "nothing there"):
        raise BadInput(f"weights: {path}: expected a weights file, got {kind}; {_REMEDY}")
    try:
        with path.open("rb") as stream:
            return stream.read(2)
    except FileNotFoundError as error:
        raise BadInput(f"weights: {path}: no such file; check the path") from error
    except OSError as error:
        problem = "got a folder" if path.is_dir() else f"cannot read it ({error.strerror})"
        raise BadInput(f"weights: {path}: expected a weights file, {problem}; {_REMEDY}") from error


def _safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        content: Mapping[str, Tensor] = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, *_DAMAGED) as error:
        raise BadInput(f"weights: {path}: expected a safetensors file, got something else or a damaged one") from error
    return content


def _pickled(path: Path, start: bytes) -> Any:
    if not start.startswith(_TORCH_STARTS):
        content = "an empty file" if not start else "something else"
        raise BadInput(f"weights: {path}: expected a weights file, got {content}; {_REMEDY}")
    if start == b"PK":
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"weights: {path}: expected tensors only, got other objects, which could run code; {_REMEDY}"
        ) from error
    except _DAMAGED as error:
        raise BadInput(f"weights: {path}: expected a weights file, got a damaged or another file; {_REMEDY}") from error


def _named_tensors(content: Any, path: Path) -> Mapping[str, Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"weights: {path}: expected tensors by name, got {type(content).__name__}; {_REMEDY}")
    others = [str(name) for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        raise BadInput(f"weights: {path}: expected tensors by name, got other values in {_some(others)}; {_REMEDY}")
    return content


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.float() if tensor.is_floating_point() else tensor


def _without_prefixes(state: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)), None)
    if prefix is None:
        return state
    return _without_prefixes(OrderedDict((name.removeprefix(prefix), tensor) for name, tensor in state.items()))


def fill(network: nn.Module, state: Mapping[str, Tensor], name: str, source: str) -> nn.Module:
    """Load a state dict into a blank network and return the network.

    Args:
        network: network from `blank`.
        state: tensors by name; BatchNorm's batch counters may be missing.
        name: name of the architecture, for the message.
        source: origin of the weights, for the message.

    Raises:
        BadInput: names or shapes do not match; the message lists up to three of each kind.
    """
    own = network.state_dict()
    counters = {key: torch.tensor(0) for key in own if key.endswith(".num_batches_tracked") and key not in state}
    complete = OrderedDict({**state, **counters})
    complete._metadata = getattr(state, "_metadata", None) or own._metadata  # type: ignore[attr-defined]
    try:
        network.load_state_dict(complete, assign=True)
    except (RuntimeError, ValueError) as error:
        raise BadInput(_mismatch(own, complete, name, source)) from error
    return network


def _mismatch(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str, source: str) -> str:
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    keys = {"missing": missing, "unexpected": unexpected}
    if not missing and not unexpected:
        keys["of another shape"] = [
            f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in own.items()
            if state[key].shape != tensor.shape
        ]
    counts = ", ".join(f"{len(names)} keys {problem} ({_some(names)})" for problem, names in keys.items() if names)
    return f"weights: {source}: expected those of {name}, got {counts or 'another version'}; give weights of {name}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def trained(folder: str | Path, weights: str | Path | None = None) -> Loaded:
    """Return the network of a folder written by `xaikit train`.

    Args:
        folder: folder with recipe.toml and weights.safetensors.
        weights: another file for the same network, or "random"; None is weights.safetensors.

    Raises:
        BadInput: a file is missing or invalid, or the training is not finished.
    """
    folder = Path(folder)
    if not (folder / "recipe.toml").is_file():
        own = (folder / "config.json").is_file()
        remedy = f"give transformers/{folder} for transformers" if own else "give a folder written by xaikit train"
        raise BadInput(f"{folder}: expected recipe.toml in it, got none; {remedy}")
    recipe = Recipe.read(folder / "recipe.toml")
    if not recipe.is_complete:
        raise BadInput(
            f"{folder}/recipe.toml: expected labels, channels, size, mean and std; use the recipe next to the weights"
        )
    if weights == RANDOM:
        network, weights_name = untrained(recipe.build), RANDOM
    else:
        file = folder / "weights.safetensors" if weights is None else Path(weights)
        if weights is None and not file.is_file():
            unfinished = (folder / "checkpoint.pt").is_file()
            remedy = "its training is not finished, run it again" if unfinished else "train it with xaikit train"
            raise BadInput(f"{folder}: expected weights.safetensors in it, got none; {remedy}")
        network, weights_name = fill(blank(recipe.build), read_state(file), recipe.arch, str(file)), file.name
    assert recipe.size is not None
    assert recipe.channels is not None
    mean, std, labels = list(recipe.mean or ()), list(recipe.std or ()), list(recipe.labels or ())
    resize = Resize("squash", (recipe.size, recipe.size))
    return Loaded(network, weights_name, mean, std, resize, labels, recipe.channels)
