"""A classifier by name.

    "resnet50"               torchvision's networks: weights="DEFAULT", another enum name, a FILE
    "cifar-resnet20"         with weights=FILE
    "texture-cnn"            shipped, no network needed
    "path/to/trained"        what `xaikit train` wrote

Any of them takes weights="random": the weights of seed 0, for tests of speed and mechanics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torchvision.models as tv
from torch import nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.foundation.files import package_data
from xaikit.images.reading import Resize
from xaikit.model.classifier import Classifier
from xaikit.model.outputs import Output
from xaikit.zoo.blank import blank, classes_of, drawn
from xaikit.zoo.catalogue import models, shipped_names
from xaikit.zoo.registry import Architecture, architecture, architectures
from xaikit.zoo.sources.torchvision import DEFAULT, from_enum, from_file, weight_names
from xaikit.zoo.weights import RANDOM, Loaded, fill, read_state, trained

_FILE_SUFFIXES = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".tar"})


def load(
    name: str | Path,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    layer: str | None = None,
    output: Output | None = None,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """Return a classifier by its name.

    Args:
        name: a torchvision classification network, a CIFAR ResNet, a shipped network, or a folder of `xaikit train`.
            A known name goes before a folder of the same name; write ./NAME for the folder.
        weights: "DEFAULT" or another name of torchvision's weights, a state dict (.pth, .pt, .safetensors), or
            "random". None is the model's own.
        device: "auto" takes the first CUDA GPU, else the CPU; "mps" has to be asked for, as it has no float64.
        layer: target layer of the activation methods; None finds it.
        output: what the logits mean; None: one logit is "binary", several are "softmax".
        labels: names of the classes; None takes those that are known of the weights.
        size: side of the square input; None takes that of the weights.
        mean: per channel; None takes that of the weights.
        std: per channel; None takes that of the weights.

    Raises:
        UnknownName: no such model or weights; the message has near names.
        BadInput: weights that cannot be downloaded, read or used, or a device that is not there.
    """
    place = resolve_device(device)
    loaded = _open(name, weights, size)
    if size is not None:
        loaded = replace(loaded, resize=_resized(loaded.resize, size))
    known = models().get(str(name))
    return Classifier(
        loaded.network.to(place),
        mean=loaded.mean if mean is None else mean,
        std=loaded.std if std is None else std,
        size=loaded.resize.size,
        labels=loaded.labels if labels is None else labels,
        layer=layer or (known.layer if known else None) or None,
        output=output,
        channels=loaded.channels,
        resize=loaded.resize,
        name=Path(name).resolve().name if known is None else str(name),
        weights=loaded.weights,
    )


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a text means, after trying it.

    Raises:
        BadInput: it is no device, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, device=place, dtype=torch.float64).item()  # mps has none, and xaikit needs it
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        there = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise BadInput(f"device: expected one of {', '.join(there)}, got {str(device)!r}; choose one") from error
    return place


def _open(name: str | Path, weights: str | Path | None, size: int | None) -> Loaded:
    if not isinstance(name, str | Path) or not str(name).strip():
        raise BadInput(f"model: expected a name or a folder, got {name!r}; xaikit list models shows the names")
    text = str(name)
    if text in models() and models()[text].source == "shipped":
        return trained(package_data(f"models/{text}"), _own_file(text, weights))
    if text in tv.list_models(module=tv):
        return _torchvision(text, weights, size)
    if text in architectures():
        return _from_file(architecture(text), weights)
    if Path(name).is_dir():
        return trained(name, _own_file(text, weights))
    if Path(name).is_file():
        raise BadInput(f"model: expected a name or a folder, got the file {text}; give a name, and --weights {text}")
    raise UnknownName("model", text, models(), "xaikit list models shows them")


def _torchvision(name: str, weights: str | Path | None, size: int | None) -> Loaded:
    member = DEFAULT if weights is None else str(weights).removeprefix(f"{tv.get_model_weights(name).__name__}.")
    if member in weight_names(name):
        return from_enum(name, member)
    if member == RANDOM or _is_file(weights):
        return from_file(name, member, size)
    raise UnknownName("weights", member, weight_names(name), f"take {' or '.join(weight_names(name))}, or give a FILE")


def _from_file(known: Architecture, weights: str | Path | None) -> Loaded:
    """Return a registered architecture with the weights of a file, or with random ones."""

    def build(classes: int) -> nn.Module:
        return known.build(classes, known.channels, known.size)

    name, usual = known.name, len(known.labels) or 10
    file = _own_file(name, weights)
    if file is None:
        raise BadInput(
            f"{name}: expected weights from a file, got none; "
            f"give --weights FILE, or take a shipped model: {', '.join(shipped_names())}"
        )
    if file == RANDOM:
        network, classes, shown = drawn(lambda: build(usual)), usual, RANDOM
    else:
        state = read_state(file)
        classes, shown = classes_of(state, build) or usual, Path(file).name
        network = fill(blank(lambda: build(classes)), state, name, str(file))
    labels = known.labels if classes == len(known.labels) else None
    resize = Resize("squash", (known.size, known.size))
    return Loaded(network, shown, known.mean, known.std, resize, labels, known.channels)


def _own_file(name: str, weights: str | Path | None) -> str | Path | None:
    """Return the file meant for a network that has no named weights; None for its own.

    Raises:
        UnknownName: neither a file nor "random".
    """
    if weights is None or weights == DEFAULT:
        return None
    if weights != RANDOM and not _is_file(weights):
        raise UnknownName("weights", str(weights), [RANDOM, DEFAULT], f"{name} takes a FILE")
    return weights


def _is_file(weights: str | Path | None) -> bool:
    path = Path(weights or "")
    return isinstance(weights, Path) or path.exists() or len(path.parts) > 1 or path.suffix.lower() in _FILE_SUFFIXES


def _resized(resize: Resize, size: int) -> Resize:
    short = None if resize.short is None or resize.size is None else round(size * resize.short / min(resize.size))
    return replace(resize, size=(size, size), short=short)
