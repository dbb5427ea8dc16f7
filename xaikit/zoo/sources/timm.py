"""timm's networks, with weights from the Hugging Face Hub or from a file.

    "timm/resnet50"                              the weights of its first tag
    "timm/resnet50.a1_in1k", or with "a1_in1k"   those of this tag
    "timm/resnet50", FILE                        the file's number of classes
    "timm/resnet50", "random"                    random weights of seed 0: for tests of speed and mechanics

Mean, standard deviation, size, crop, interpolation and labels are those of the tag (model/facts.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.model.facts import Facts, facts_of
from xaikit.zoo.catalogue import TIMM
from xaikit.zoo.empty_networks import classes_of, drawn, untrained
from xaikit.zoo.sources.hub import downloaded, package
from xaikit.zoo.weights import DEFAULT, RANDOM, Loaded, fill, is_file, read_state

_REMEDY = "give --weights FILE"


def from_timm(name: str, weights: str | Path | None, size: int | None = None) -> Loaded:
    """Return a network of timm.

    Args:
        name: timm's name, with its tag or without.
        weights: tag, file of a state dict, or "random"; None is the tag in the name, or timm's first.
        size: side of the square input; None is that of the tag.

    Raises:
        MissingExtra: timm is not installed.
        UnknownName: timm has no such network or tag; the message suggests similar names.
        BadInput: the weights cannot be downloaded, or belong to another network.
    """
    timm = _timm(name)
    plain, _, tag = name.partition(".")
    tags = [one.partition(".")[2] for one in timm.models.get_arch_pretrained_cfgs(plain)]
    file = weights if is_file(weights) or weights == RANDOM else None
    if weights is not None and file is None and weights != DEFAULT:
        tag = str(weights)
    if tag and tag not in tags:
        raise UnknownName("weights", tag, tags, f"use {' or '.join(tags)}, or give a FILE")
    full = f"{plain}.{tag}" if tag else plain
    known = timm.get_pretrained_cfg(full)
    options: dict[str, Any] = {"img_size": size} if size is not None and known.fixed_input_size else {}

    def build(classes: int = known.num_classes) -> nn.Module:
        network: nn.Module = timm.create_model(full, num_classes=classes, **options)
        return network

    if file == RANDOM:
        network, used = untrained(build), RANDOM
    elif file is not None:
        state = read_state(file)
        classes, used = classes_of(state, build) or known.num_classes, Path(file).name
        network = fill(drawn(lambda: build(classes)), state, f"{TIMM}{full}", str(file))
    else:
        given, used = {"state_dict": read_state(_from_hub(known, f"{TIMM}{full}"))}, str(known.tag)
        network = drawn(lambda: timm.create_model(full, pretrained=True, pretrained_cfg_overlay=given, **options))
        vars(network)["pretrained_cfg"].pop("state_dict")
    channels = int(known.input_size[0])
    facts = facts_of(network, None, channels, Facts())
    assert facts.resize is not None
    return Loaded(network, used, facts.mean, facts.std, facts.resize, facts.labels, channels)


def facts(name: str) -> tuple[int, int, Sequence[float], Sequence[float]]:
    """Return channels, size, mean and std of a network that is to be trained, by "timm/NAME" with its tag or without.

    Raises:
        MissingExtra: timm is not installed.
        UnknownName: timm has no such network.
    """
    known = _timm(name.removeprefix(TIMM)).get_pretrained_cfg(name.removeprefix(TIMM))
    return known.input_size[0], known.input_size[1], known.mean, known.std


def build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """Return the network "timm/NAME" with random weights, for a number of classes and channels and a size."""
    plain = name.removeprefix(TIMM)
    timm = _timm(plain)
    options = {"img_size": size} if timm.get_pretrained_cfg(plain).fixed_input_size else {}
    network: nn.Module = timm.create_model(plain, num_classes=classes, in_chans=channels, **options)
    return network


def _timm(name: str) -> Any:
    """Return the package, if it has a network of this name."""
    timm = package("timm")
    if not timm.is_model(name.partition(".")[0]):
        known = [f"{TIMM}{one}" for one in timm.list_models()]
        raise UnknownName("model", f"{TIMM}{name}", known, "timm.list_models() shows them")
    return timm


def _from_hub(known: Any, name: str) -> Path:
    """Return the file of a tag's weights, downloaded if this machine does not have it."""
    if not known.hf_hub_id:
        raise BadInput(
            f"{name}: expected a network with weights on the Hugging Face Hub, got none; give --weights FILE"
        )
    return downloaded(known.hf_hub_id, known.hf_hub_filename or "model.safetensors", name, "give --weights FILE")
