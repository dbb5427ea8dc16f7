"""A classifier by name.

    "resnet50"               torchvision's networks: weights="DEFAULT", another enum name, or a FILE
    "cifar-resnet20"         needs weights=FILE
    "texture-cnn"            shipped with the package, as texture-vit and lenet5-digits are; works offline
    "path/to/trained"        a folder written by `xaikit train`
    "timm/NAME"              timm's networks, with a tag as weights or in the name (sources/timm.py)
    "transformers/NAME"      image classifiers of transformers, by name or folder (sources/transformers.py)
    "mine.py:build"          what a function in a file returns (sources/python_file.py)

Each also takes weights="random": random weights of seed 0, for tests of speed and mechanics.
"""

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
from xaikit.zoo.catalogue import TIMM, TRANSFORMERS, is_of_file, models, shipped_names, title
from xaikit.zoo.empty_networks import blank, classes_of, untrained
from xaikit.zoo.registry import Architecture, architecture, architectures
from xaikit.zoo.sources.python_file import as_it_is, built, from_python
from xaikit.zoo.sources.timm import from_timm
from xaikit.zoo.sources.torchvision import from_enum, from_file, weight_names
from xaikit.zoo.sources.transformers import from_transformers
from xaikit.zoo.weights import DEFAULT, RANDOM, Loaded, fill, is_file, read_state, trained


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
    """Return a classifier by name.

    Args:
        name: a torchvision classification network, a CIFAR ResNet, a shipped network, a folder written by
            `xaikit train`, timm/NAME, transformers/NAME or FOLDER, or FILE.py:FUNCTION, which returns a module or a
            Classifier. A known name takes precedence over a folder; write ./NAME for the folder.
        weights: "DEFAULT", another name of torchvision's weights or a tag of timm's, a file of a state dict (.pth, .pt,
            .safetensors), or "random"; None is the model's own.
        device: a device, or "auto" for the first CUDA GPU, else the CPU.
        layer: target layer of the activation methods; None finds it.
        output: meaning of the logits; None is "binary" for one logit and "softmax" for several.
        labels: names of the classes; None is those known for the weights.
        size: side of the square input, in pixels; None is that of the weights.
        mean: mean of each channel; None is that of the weights.
        std: standard deviation of each channel; None is that of the weights.

    Raises:
        UnknownName: there is no such model or weights; the message suggests similar names.
        BadInput: the weights cannot be downloaded, read or used, or the device is not available.
    """
    device = resolve_device(device)
    if is_of_file(str(name)):
        network = built(str(name))
        if isinstance(network, Classifier):
            options = {"weights": weights, "layer": layer, "output": output, "labels": labels, "size": size}
            return as_it_is(network, str(name), options | {"mean": mean, "std": std}).to(device)
        loaded = from_python(network, str(name), weights)
    else:
        loaded = _open(name, weights, size)
    if size is not None and loaded.resize is not None:
        loaded = replace(loaded, resize=_resized(loaded.resize, size))
    known = models().get(str(name))
    return Classifier(
        loaded.network.to(device),
        mean=loaded.mean if mean is None else mean,
        std=loaded.std if std is None else std,
        size=size if loaded.resize is None else loaded.resize.size,
        labels=loaded.labels if labels is None else labels,
        layer=layer or (known.layer if known else None) or None,
        output=output,
        channels=loaded.channels,
        resize=loaded.resize,
        name=title(name),
        weights=loaded.weights,
    )


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of a name, after a test allocation; "auto" is the first CUDA GPU, else the CPU.

    Raises:
        BadInput: there is no such device, it is not available, or it has no float64 (as mps).
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved, dtype=torch.float64).item()  # xaikit needs float64, which mps lacks
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        available = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise BadInput(f"device: expected one of {', '.join(available)}, got {str(device)!r}") from error
    return resolved


def _open(name: str | Path, weights: str | Path | None, size: int | None) -> Loaded:
    if not isinstance(name, str | Path) or not str(name).strip():
        raise BadInput(f"model: expected a name or a folder, got {name!r}; xaikit list models shows the names")
    text = str(name)
    if text.startswith(TIMM):
        return from_timm(text.removeprefix(TIMM), weights, size)
    if text.startswith(TRANSFORMERS):
        return from_transformers(text.removeprefix(TRANSFORMERS), weights)
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
    if member == RANDOM or is_file(weights):
        return from_file(name, member, size)
    raise UnknownName("weights", member, weight_names(name), f"use {' or '.join(weight_names(name))}, or give a FILE")


def _from_file(kind: Architecture, weights: str | Path | None) -> Loaded:
    """Return a registered architecture with the weights of a file, or with random weights."""

    def build(classes: int) -> nn.Module:
        return kind.build(classes, kind.channels, kind.size)

    name, default = kind.name, len(kind.labels) or 10
    file = _own_file(name, weights)
    if file is None:
        raise BadInput(
            f"{name}: expected weights from a file, got none; "
            f"give --weights FILE, or use a shipped model: {', '.join(shipped_names())}"
        )
    if file == RANDOM:
        network, classes, weights_name = untrained(lambda: build(default)), default, RANDOM
    else:
        state = read_state(file)
        classes, weights_name = classes_of(state, build) or default, Path(file).name
        network = fill(blank(lambda: build(classes)), state, name, str(file))
    labels = kind.labels if classes == len(kind.labels) else None
    resize = Resize("squash", (kind.size, kind.size))
    return Loaded(network, weights_name, kind.mean, kind.std, resize, labels, kind.channels)


def _own_file(name: str, weights: str | Path | None) -> str | Path | None:
    """Return the file or "random" for a network that has no named weights; None is its own weights.

    Raises:
        UnknownName: `weights` is neither a file nor "random".
    """
    if weights is None or weights == DEFAULT:
        return None
    if weights != RANDOM and not is_file(weights):
        raise UnknownName("weights", str(weights), [RANDOM, DEFAULT], f"{name} takes a FILE")
    return weights


def _resized(resize: Resize, size: int) -> Resize:
    short = None if resize.short is None or resize.size is None else round(size * resize.short / min(resize.size))
    return replace(resize, size=(size, size), short=short)
