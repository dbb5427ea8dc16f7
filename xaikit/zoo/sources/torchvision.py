"""torchvision's classification networks, with their own weights or a file's.

    weights="DEFAULT" or an enum name   labels, size, mean, std, resizing and interpolation are the weights' own
    weights=FILE                        the DEFAULT's mean, std and size; short side round(size * 256 / 224), then the
                                        centre; as many classes as the file has, ImageNet's labels for 1000
    weights="random"                    as a file, with the weights of seed 0: for speed and mechanics

A download is tried once by torchvision's own loader, into torch hub's cache; each wait for the network ends after 10 s.
"""

from __future__ import annotations

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
from xaikit.zoo.blank import blank, classes_of, drawn
from xaikit.zoo.catalogue import shipped_names
from xaikit.zoo.weights import RANDOM, Loaded, fill, read_state

DEFAULT = "DEFAULT"

_LOG = logging.getLogger("xaikit")
_SECONDS = 10.0
_DENSENET_OLD = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d+\.)")
_AUXILIARY = re.compile(r"(aux[12]|AuxLogits)\.")


def weight_names(name: str) -> list[str]:
    """Return the members of a network's weights enum, DEFAULT first."""
    return [DEFAULT, *(str(member.name) for member in tv.get_model_weights(name))]


# ---- downloaded ------------------------------------------------------------------------------------------------------


def from_enum(name: str, member: str = DEFAULT) -> Loaded:
    """Return a network with the weights that a member of its enum names.

    Raises:
        UnknownName: no such member; the message has near ones.
        BadInput: the weights cannot be downloaded, or they have no classifier.
    """
    if member not in weight_names(name):
        raise UnknownName("weights", member, weight_names(name), f"take {' or '.join(weight_names(name))}")
    weights = tv.get_model_weights(name)[member]
    labels = weights.meta["categories"]
    if not labels:
        raise BadInput(f"weights: {member} of {name} has no classifier; take {' or '.join(weight_names(name)[:2])}")
    preset = weights.transforms()
    size = (preset.crop_size[0], preset.crop_size[0])
    network = blank(lambda: _build(name, len(labels), size[0]))
    fill(network, _adapted(name, _downloaded(name, weights)), name, weights.name)
    resize = Resize("crop", size, preset.resize_size[0], cast("Interpolation", preset.interpolation.value))
    return Loaded(network, weights.name, preset.mean, preset.std, resize, labels)


def _downloaded(name: str, weights: Any) -> Mapping[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    had = cached.is_file()
    if not had:
        _LOG.info("downloading %s to %s", weights.url, cached)
    try:
        with _time_limit(_SECONDS), redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # torch hub's own line
            state: Mapping[str, Tensor] = weights.get_state_dict(
                progress=False, check_hash=True, map_location="cpu", weights_only=True
            )
    except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        ways = f"give --weights FILE, or take a shipped model: {', '.join(shipped_names())}"
        if had:
            raise BadInput(f"{name}: the cached weights {cached} are damaged; delete the file, {ways}") from error
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise BadInput(f"{name}: could not download the weights {weights.name} ({reason}); {ways}") from error
    return state


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End each wait on a new connection after `seconds`."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# ---- from a file -----------------------------------------------------------------------------------------------------


def from_file(name: str, weights: str | Path, size: int | None = None) -> Loaded:
    """Return a network with the weights of a file, or with random ones.

    Args:
        name: torchvision's name.
        weights: state dict, or "random".
        size: side of the square input; None takes that of torchvision's own weights.

    Raises:
        BadInput: the file is no weights file, or its weights belong to another architecture.
    """
    default = tv.get_model_weights(name).DEFAULT
    preset = default.transforms()
    side = size or int(preset.crop_size[0])
    known: Sequence[str] = default.meta["categories"]

    def build(classes: int) -> nn.Module:
        return _build(name, classes, side)

    if weights == RANDOM:
        network, classes, shown = drawn(lambda: build(len(known))), len(known), RANDOM
    else:
        state = _adapted(name, read_state(weights))
        classes, shown = classes_of(state, build) or len(known), Path(weights).name
        network = fill(blank(lambda: build(classes)), state, name, str(weights))
    resize = Resize("crop", (side, side), round(side * 256 / 224))
    return Loaded(network, shown, preset.mean, preset.std, resize, known if classes == len(known) else None)


# ---- what torchvision's builders and files need ----------------------------------------------------------------------


def _build(name: str, classes: int, size: int) -> nn.Module:
    network: nn.Module = tv.get_model(name, weights=None, num_classes=classes, **_options(name, size))
    return network


def _options(name: str, size: int) -> dict[str, Any]:
    """Return what a builder is told besides the classes.

    GoogLeNet and Inception rescale their input inside, as torchvision's weights of them and what is tuned from these
    need; their auxiliary heads serve training only.
    """
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        return {"image_size": size}
    return {"input_size": (size, size)} if name.startswith("maxvit_") else {}


def _adapted(name: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename the keys of old DenseNet files, and leave out the auxiliary heads, which serve training only."""
    rename: Callable[[str], str] = (lambda key: _DENSENET_OLD.sub(r"\1\2", key)) if name.startswith("densenet") else str
    kept = OrderedDict((rename(key), tensor) for key, tensor in state.items() if not _AUXILIARY.match(key))
    if hasattr(state, "_metadata"):
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    return kept
