"""Image classifiers of transformers, from the Hugging Face Hub or from a folder of `save_pretrained`.

    "transformers/microsoft/resnet-50"      from the Hub
    "transformers/my/folder"                a folder with config.json and weights
    ..., FILE                               the same network with the weights of a file of a state dict
    ..., "random"                           random weights of seed 0: for tests of speed and mechanics

Mean, standard deviation, size, crop and interpolation are those of its image processor, labels those of
config.id2label (model/facts.py). Code that lies beside weights is not run.
"""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from xaikit.foundation.errors import BadInput
from xaikit.model.facts import Facts, facts_of
from xaikit.zoo.catalogue import TRANSFORMERS
from xaikit.zoo.empty_networks import drawn
from xaikit.zoo.sources.hub import check_reached, package
from xaikit.zoo.weights import DEFAULT, RANDOM, Loaded, fill, read_state

_REMEDY = "give the folder of save_pretrained: transformers/FOLDER"


def from_transformers(place: str, weights: str | Path | None) -> Loaded:
    """Return an image classifier of transformers.

    Args:
        place: name on the Hub, or a folder.
        weights: file of a state dict, or "random"; None is those that lie there.

    Raises:
        MissingExtra: transformers is not installed.
        UnknownName: the Hub has no such model; the message suggests those that this machine keeps.
        BadInput: it cannot be downloaded or read, or it is no image classifier.
    """
    transformers = package("transformers")
    name = f"{TRANSFORMERS}{place}"
    if weights in (None, DEFAULT):
        made = transformers.AutoModelForImageClassification
        network, found = _read(made, place, name, output_loading_info=True)
        if lost := sorted(found["missing_keys"]) + sorted(str(key) for key, *_ in found["mismatched_keys"]):
            raise BadInput(
                f"{name}: expected the weights of an image classifier, got none of {', '.join(lost[:3])}, which would "
                "be random; give one that is trained to classify"
            )
        used = place if not Path(place).is_dir() else Path(place).resolve().name
    else:
        config = _read(transformers.AutoConfig, place, name)
        network = drawn(lambda: _from_config(transformers, config, name))
        used = RANDOM
        if weights != RANDOM:
            network, used = fill(network, read_state(weights), name, str(weights)), Path(weights).name
    network = network.float().eval()
    channels = int(getattr(network.config, "num_channels", 3))
    facts = facts_of(network, None, channels, Facts())
    return Loaded(network, used, facts.mean, facts.std, facts.resize, facts.labels, channels)


def _from_config(transformers: Any, config: Any, name: str) -> Any:
    try:
        return transformers.AutoModelForImageClassification.from_config(config)
    except ValueError as error:
        raise _no_classifier(name, error) from error


def _read(kind: Any, place: str, name: str, **options: Any) -> Any:
    """Return what `kind` reads at a place: from this machine, or else from the Hub."""
    try:
        with redirect_stderr(StringIO()):  # progress bars
            try:
                return kind.from_pretrained(place, local_files_only=True, **options)
            except OSError as error:
                if place and Path(place).is_dir():
                    raise BadInput(f"{name}: expected the files of save_pretrained, got {_line(error)}") from error
                if Path(place).is_absolute() or place.startswith(".") or not 1 <= len(Path(place).parts) <= 2:
                    raise BadInput(
                        f"{name}: expected a folder, or OWNER/NAME on the Hub, got none; {_REMEDY}"
                    ) from error
            check_reached(place, name, _REMEDY)
            return kind.from_pretrained(place, **options)
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise _no_classifier(name, error) from error
    except OSError as error:
        raise BadInput(f"{name}: could not download the model ({_line(error)}); {_REMEDY}") from error


def _no_classifier(name: str, error: Exception) -> BadInput:
    return BadInput(f"{name}: expected an image classifier of transformers, got another model ({_line(error)})")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
