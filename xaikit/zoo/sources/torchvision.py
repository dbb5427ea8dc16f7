"""torchvision's classification networks, with torchvision's weights or those of a file.

    weights="DEFAULT" or an enum name   labels, size, mean, std, resizing and interpolation of these weights
    weights=FILE                        mean, std and size of DEFAULT; short side round(size * 256 / 224), then the
                                        centre crop; the file's number of classes, ImageNet's labels for 1000
    weights="random"                    as for a file, with random weights of seed 0: for tests of speed and mechanics

torchvision's loader tries a download once, into torch hub's cache, with a timeout of 10 s per wait.
"""

import logging
import pickle
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.client import HTTPException
from io import StringIO
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
import torchvision.models as tv
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.images.reading import Interpolation, Resize
from xaikit.zoo.catalogue import shipped_names
from xaikit.zoo.empty_networks import blank, classes_of, untrained
from xaikit.zoo.weights import DEFAULT, RANDOM, Loaded, fill, read_state

_LOG = logging.getLogger("xaikit")
_SECONDS = 10.0
_DENSENET_OLD = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d+\.)")
_AUXILIARY = re.compile(r"(aux[12]|AuxLogits)\.")


def weight_names(name: str) -> list[str]:
    """Return the names in a network's weights enum, DEFAULT first."""
    return [DEFAULT, *(str(member.name) for member in tv.get_model_weights(name))]


def from_enum(name: str, member: str = DEFAULT) -> Loaded:
    """Return a network with the weights of one member of its enum.

    Raises:
        UnknownName: there is no such member; the message suggests similar names.
        BadInput: the weights cannot be downloaded, or they have no classifier.
    """
    if member not in weight_names(name):
        raise UnknownName("weights", member, weight_names(name), f"use {' or '.join(weight_names(name))}")
    weights = tv.get_model_weights(name)[member]
    labels = weights.meta["categories"]
    if not labels:
        raise BadInput(f"weights: {member} of {name} has no classifier; use {' or '.join(weight_names(name)[:2])}")
    preset = weights.transforms()
    size = (preset.crop_size[0], preset.crop_size[0])
    network = blank(lambda: _build(name, len(labels), size[0]))
    fill(network, _adapted(name, _downloaded(name, weights)), name, weights.name)
    resize = Resize("crop", size, preset.resize_size[0], cast("Interpolation", preset.interpolation.value))
    return Loaded(network, weights.name, preset.mean, preset.std, resize, labels)


def _downloaded(name: str, weights: Any) -> Mapping[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    was_cached = cached.is_file()
    if not was_cached:
        _LOG.info("downloading %s to %s", weights.url, cached)
    try:
        with _time_limit(_SECONDS), redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # torch hub's message
            state: Mapping[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        remedy = f"give --weights FILE, or use a shipped model: {', '.join(shipped_names())}"
        if was_cached:
            raise BadInput(f"{name}: the cached weights {cached} are damaged; delete the file, {remedy}") from error
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise BadInput(f"{name}: could not download the weights {weights.name} ({reason}); {remedy}") from error
    return state


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Set a timeout of `seconds` for each wait on a new connection."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def from_file(name: str, weights: str | Path, size: int | None = None) -> Loaded:
    """Return a network with the weights of a file, or with random weights.

    Args:
        name: torchvision's name of the network.
        weights: file of a state dict, or "random".
        size: side of the square input; None is that of torchvision's weights.

    Raises:
        BadInput: the file is not a weights file, or its weights belong to another architecture.
    """
    default = tv.get_model_weights(name).DEFAULT
    preset = default.transforms()
    side = size or int(preset.crop_size[0])
    categories: Sequence[str] = default.meta["categories"]

    def build(classes: int) -> nn.Module:
        return _build(name, classes, side)

    if weights == RANDOM:
        network, classes, weights_name = untrained(lambda: build(len(categories))), len(categories), RANDOM
    else:
        state = _adapted(name, read_state(weights))
        classes, weights_name = classes_of(state, build) or len(categories), Path(weights).name
        network = fill(blank(lambda: build(classes)), state, name, str(weights))
    resize = Resize("crop", (side, side), round(side * 256 / 224))
    labels = categories if classes == len(categories) else None
    return Loaded(network, weights_name, preset.mean, preset.std, resize, labels)


def _build(name: str, classes: int, size: int) -> nn.Module:
    network: nn.Module = tv.get_model(name, weights=None, num_classes=classes, **_options(name, size))
    return network


def _options(name: str, size: int) -> dict[str, Any]:
    """Return the options of a builder other than the number of classes.

    GoogLeNet and Inception rescale their input, as torchvision's weights and those fine-tuned from them require; their
    auxiliary heads are used in training only.
    """
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if name.startswith("maxvit_") else {}


def _adapted(name: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename the keys of old DenseNet files and drop the auxiliary heads, which are used in training only."""
    rename: Callable[[str], str] = (lambda key: _DENSENET_OLD.sub(r"\1\2", key)) if name.startswith("densenet") else str
    kept = OrderedDict((rename(key), tensor) for key, tensor in state.items() if not _AUXILIARY.match(key))
    if hasattr(state, "_metadata"):
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    return kept
