"""The networks that the page offers: those given at the start, trained folders, shipped ones, and cached weights.

    given       --model NAME, --weights FILE, in pairs; or a Classifier from Python
    trained     subfolders that `xaikit train` wrote, of a folder that is given in place of a model
    shipped     networks of the package
    cached      torchvision's and timm's names whose weights this machine keeps, so that no request leaves it

The page chooses among these names; none that it sends is taken for a path.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision.models as tv

from xaikit.foundation.errors import BadInput, MissingExtra
from xaikit.foundation.texts import printable
from xaikit.methods.base import Method
from xaikit.model.classifier import Classifier
from xaikit.zoo.catalogue import TIMM, models, shipped_names, title
from xaikit.zoo.load import load
from xaikit.zoo.sources.hub import kept_names

BoundMethods = dict[tuple[str, str | None], Method]
"""Methods by name and layer."""


@dataclass(frozen=True)
class Offer:
    """One network that can be chosen.

    Args:
        name: what the page calls it.
        load: loads it.
        options: options of the command line that name it, without folders; none for a classifier from Python.
    """

    name: str
    load: Callable[[], Classifier]
    options: tuple[str, ...] = ()

    @property
    def python(self) -> str | None:
        """The expression that loads it; None for a classifier from Python."""
        if not self.options:
            return None
        named = dict(zip(self.options[::2], self.options[1::2], strict=True))
        weights = f", weights={named['--weights']!r}" if "--weights" in named else ""
        return f"xaikit.load({named['--model']!r}{weights})"


class Models:
    """The offered networks, each loaded once, when it is first chosen.

    Args:
        offers: the networks; the first is chosen at the start.
    """

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers: dict[str, Offer] = {}
        for offer in offers:
            self._offers.setdefault(offer.name, offer)
        self._loaded: dict[str, Classifier] = {}
        self._methods: dict[str, BoundMethods] = {name: {} for name in self._offers}
        self._locks = {name: threading.Lock() for name in self._offers}

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return list(self._offers)

    def offer(self, name: str) -> Offer:
        """Return the offer of a name.

        Raises:
            BadInput: it is not offered.
        """
        if name not in self._offers:
            raise BadInput("model: expected one that the page offers, got another; choose one there")
        return self._offers[name]

    def get(self, name: str) -> Classifier:
        """Return the classifier of a name.

        Raises:
            XaikitError: it is not offered, or it cannot be loaded.
        """
        offer = self.offer(name)
        with self._locks[name]:
            if name not in self._loaded:
                self._loaded[name] = offer.load()
            return self._loaded[name]

    def methods(self, name: str) -> BoundMethods:
        """Return the methods that were bound to a network so far; some keep what serves pictures of the same size."""
        return self._methods[name]


def of_classifiers(classifiers: Sequence[Classifier]) -> list[Offer]:
    """Return offers of classifiers from Python; those of one name are numbered."""
    offers = []
    names = [" · ".join(filter(None, [one.name, one.weights])) or "classifier" for one in classifiers]
    for place, (name, classifier) in enumerate(zip(names, classifiers, strict=True)):
        number = f" ({names[:place].count(name) + 1})" if names.count(name) > 1 else ""
        offers.append(Offer(printable(name + number), lambda kept=classifier: kept))  # type: ignore[misc]
    return offers


def given(names: Sequence[str], weights: Sequence[str], device: str) -> list[Offer]:
    """Return offers of models named at the start, paired with weights; one model takes several weights.

    Raises:
        BadInput: there are more weights than models.
    """
    if len(names) == 1 and len(weights) > 1:
        names = [names[0]] * len(weights)
    if len(weights) > len(names):
        raise BadInput(f"weights: expected at most one for each of {len(names)} models, got {len(weights)}")
    offers = []
    for name, file in zip_longest(names, weights):
        folders = [] if file else trained_folders(Path(name))
        offers += [_named(folder, None, device) for folder in folders] or [_named(name, file, device)]
    return offers


def known_offline(device: str, *, photographs: bool) -> list[Offer]:
    """Return offers of what needs no network: shipped networks, and those of torchvision and timm in their caches.

    Args:
        device: device of the networks.
        photographs: whether the networks of photographs come first, or those of the pictures that are drawn.
    """
    timm_names = []
    with suppress(MissingExtra):
        timm_names = [f"{TIMM}{name.partition('/')[2]}" for name in kept_names() if name.startswith("timm/")]
    cached = [name for name, known in models().items() if known.source == "torchvision" and _is_cached(name)]
    shipped = sorted(shipped_names(), key=lambda name: not name.startswith("texture-"))
    names = [*cached, *timm_names, *shipped] if photographs else [*shipped, *cached, *timm_names]
    return [_named(name, None, device) for name in names]


def trained_folders(root: Path) -> list[str]:
    """Return the subfolders of a folder that hold a finished training, if it is no model itself."""
    if str(root) in models() or not root.is_dir() or (root / "recipe.toml").is_file():
        return []
    return sorted(str(recipe.parent) for recipe in root.glob("*/recipe.toml") if _is_trained(recipe.parent))


def _is_trained(folder: Path) -> bool:
    return (folder / "weights.safetensors").is_file()


def _is_cached(name: str) -> bool:
    url = tv.get_model_weights(name)[models()[name].weights].url
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name).is_file()


def _named(name: str, weights: str | None, device: str) -> Offer:
    shown = Path(weights).name if weights else None
    options = ("--model", title(name), *(("--weights", shown) if shown else ()))
    text = " · ".join(filter(None, [title(name), shown]))
    return Offer(printable(text), lambda: load(name, weights=weights, device=device), options)
