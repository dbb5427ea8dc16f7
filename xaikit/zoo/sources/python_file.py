"""Networks that a function in the user's own file builds.

    "mine.py:build"        build() returns a module, or a Classifier with its preprocessing and labels

The file is run as it is.
"""

from pathlib import Path

from torch import nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.foundation.registry import load_plugin
from xaikit.model.classifier import Classifier
from xaikit.model.facts import Facts, facts_of
from xaikit.model.preprocessing import first_channels
from xaikit.zoo.weights import Loaded, fill, read_state


def built(name: str) -> nn.Module:
    """Return what the function of FILE.py:NAME returns.

    Raises:
        UnknownName: the file has no such function; the message suggests similar names.
        BadInput: the file cannot be imported, or the function fails or returns no module.
    """
    file, _, function = name.rpartition(":")
    module = load_plugin(file)
    own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if function not in own:
        raise UnknownName("function", function, own, f"{file} has {', '.join(own) or 'none'}")
    try:
        network = getattr(module, function)()
    except Exception as error:  # the function is the user's
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"model: expected {name} to return a network, got {text}; call it without arguments") from error
    if not isinstance(network, nn.Module):
        raise BadInput(f"model: expected a module or a Classifier from {name}, got {type(network).__name__}")
    return network


def from_python(network: nn.Module, name: str, weights: str | Path | None) -> Loaded:
    """Return a module with all that is known of it.

    Args:
        network: the module, which is no Classifier.
        name: FILE.py:NAME, for messages.
        weights: file of a state dict; None keeps the module's own.

    Raises:
        BadInput: the file is not a weights file, or its weights belong to another network.
    """
    if weights is not None:
        fill(network, read_state(weights), name, str(weights))
    channels = first_channels(network)
    facts = facts_of(network, None, channels, Facts())
    used = "" if weights is None else Path(weights).name
    return Loaded(network.eval(), used, facts.mean, facts.std, facts.resize, facts.labels, channels)


def as_it_is(classifier: Classifier, name: str, given: dict[str, object]) -> Classifier:
    """Return a Classifier that a file built.

    Raises:
        BadInput: something is given that the Classifier has itself.
    """
    if others := [key for key, value in given.items() if value is not None]:
        raise BadInput(f"{others[0]}: expected none, {name} returns a Classifier; set it there")
    return classifier
