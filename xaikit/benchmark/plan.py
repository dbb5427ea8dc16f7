"""The plan: which units there are, which are missing, and the chunks they are computed in.

    setting = dataset, model, method with parameters, protocol, target rule, seed      everything but the image
    unit    = setting x image                                                          -> unit_id
    chunk   = a few images x the settings of one model that they lack                  -> one file of rows

The list of units depends on suite and data alone. Chunks are cut from what is missing, so that nothing is computed
twice whatever was done before, in whatever order.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from xaikit.benchmark.dataset import Picture
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.suite_entries import SuiteMethod, SuiteModel
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import SCHEMA_VERSION, fingerprint
from xaikit.measures.removal.keep_curve_measures import KeptConfidence
from xaikit.methods.base import LayerMethod, Method
from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost

Shard = tuple[int, int]
_NOMINAL = (224, 224)


@dataclass(frozen=True)
class Setting:
    """Everything about a unit but its image.

    Args:
        id: hash of all that the numbers depend on.
        map_id: hash of all that the map depends on.
        method: what rows call the method.
        family: of the method.
        entry: the suite's entry, or None for the oracles.
        seed: of random draws.
        cost: declared passes for one image, explaining and measuring.
        shared: declared passes for one image that all settings of it share.
        about: what the rows of the setting have in common.
    """

    id: str
    map_id: str
    method: str
    family: str
    entry: SuiteMethod | None
    seed: int
    cost: Cost
    shared: Cost
    about: dict[str, Any] = field(compare=False)


@dataclass(frozen=True)
class Chunk:
    """Images of one model and the settings that they lack.

    Args:
        model: place of the model in the suite.
        settings: of that model.
        pictures: the images.
    """

    model: int
    settings: tuple[Setting, ...]
    pictures: tuple[Picture, ...]

    def __len__(self) -> int:
        return len(self.settings) * len(self.pictures)

    @property
    def id(self) -> str:
        """16 hexadecimal digits, the same for the same units."""
        return fingerprint([unit_id(setting, picture) for picture in self.pictures for setting in self.settings])

    @property
    def cost(self) -> Cost:
        """Declared passes of all its units."""
        images = len(self.pictures)
        return Cost(
            images * (self.settings[0].shared.forwards + sum(one.cost.forwards for one in self.settings)),
            images * (self.settings[0].shared.backwards + sum(one.cost.backwards for one in self.settings)),
        )


def unit_id(setting: Setting, picture: Picture) -> str:
    """Return the name of a unit."""
    return fingerprint({"setting": setting.id, "image": picture.key})


def settings(suite: Suite, model: SuiteModel, classifier: Classifier, evidence: bool) -> list[Setting]:
    """Return the settings of one model, methods first, then controls, for each seed; none beyond its budget.

    Raises:
        BadInput: a method's parameters do not fit the classifier.
    """
    entries: list[SuiteMethod | str] = list(suite.all_methods)
    if evidence and suite.controls:
        entries += [name for name in ORACLES if name not in {method.title for method in suite.all_methods}]
    protocol = {
        "levels": suite.levels,
        "fill": suite.fill,
        "batch": suite.batch,
        "resize": suite.data.resize,
        "measures": {one.title: [one.name, one.build().params] for one in suite.measures},
    }
    network = {
        "fingerprint": classifier.fingerprint,
        "size": classifier.size,
        "resize": str(classifier.resize),
        "layer": model.layer,
    }
    common = {"schema": SCHEMA_VERSION, "dataset": suite.data.title, "model": network, "target": suite.target}
    bound = [
        (one, ORACLES[one](classifier) if isinstance(one, str) else one.build(classifier, model.layer))
        for one in entries
    ]
    size = classifier.size or _NOMINAL
    return [
        _setting(suite, model, entry, method, seed, common, protocol)
        for seed in suite.seeds
        for entry, method in bound
        if isinstance(entry, str) or entry.affords(method.cost(size))
    ]


def _setting(
    suite: Suite,
    model: SuiteModel,
    entry: SuiteMethod | str,
    method: Method,
    seed: int,
    common: dict[str, Any],
    protocol: dict[str, Any],
) -> Setting:
    classifier = method.classifier
    title = entry if isinstance(entry, str) else entry.title
    references = model.library or suite.library
    library = None if references is None or "library" not in method.needs else references.identity
    explained = common | {
        "method": method.name,
        "params": method.params,
        "layer": str(method.place) if isinstance(method, LayerMethod) else None,
        "library": library,
        "seed": seed,
        "batch": suite.batch,
    }
    about = {
        "dataset": suite.data.title,
        "model": classifier.name,
        "weights": classifier.weights,
        "model_fingerprint": classifier.fingerprint,
        "method": title,
        "family": method.family,
        "layer": explained["layer"],
        "target_rule": str(suite.target),
        "levels": suite.levels,
        "fill": suite.fill,
        "seed": seed,
        "batch": suite.batch,
        "protocol": fingerprint(protocol),
    }
    return Setting(
        id=fingerprint(explained | {"label": title, "protocol": protocol}),
        map_id=fingerprint(explained),
        method=title,
        family=method.family,
        entry=None if isinstance(entry, str) else entry,
        seed=seed,
        cost=_cost(suite, method.cost(classifier.size or _NOMINAL)),
        shared=_shared_cost(suite),
        about=about,
    )


def _cost(suite: Suite, explaining: Cost) -> Cost:
    """Return the passes for one image: explaining, the two keep curves, and what other measures add at most."""
    measures = [one.build() for one in suite.measures]
    own = [one.cost() for one in measures if not isinstance(one, KeptConfidence)]
    again = 1 + sum(one.explanations() for one in measures)
    return Cost(
        again * explaining.forwards + 2 * suite.levels - 1 + sum(cost.forwards for cost in own),
        again * explaining.backwards + sum(cost.backwards for cost in own),
    )


def _shared_cost(suite: Suite) -> Cost:
    """Return the passes for one image that its maps share."""
    shared = [one.build().image_cost() for one in suite.measures]
    return Cost(2 + sum(cost.forwards for cost in shared), sum(cost.backwards for cost in shared))


def chunks(
    model: int, all_settings: Sequence[Setting], pictures: Sequence[Picture], done: Container[str], size: int
) -> list[Chunk]:
    """Return what is missing of one model, as chunks of at most `size` images that lack the same settings."""
    lacking = [
        (picture, tuple(one for one in all_settings if unit_id(one, picture) not in done)) for picture in pictures
    ]
    found = []
    for asked, group in groupby(
        sorted((pair for pair in lacking if pair[1]), key=lambda pair: [one.id for one in pair[1]]),
        key=lambda pair: pair[1],
    ):
        images = [picture for picture, _ in group]
        found += [Chunk(model, asked, tuple(images[at : at + size])) for at in range(0, len(images), size)]
    return found


def in_shard(pictures: Sequence[Picture], shard: Shard | None, block: int) -> list[Picture]:
    """Return the images of one shard: every n-th block of `block` images; n of n is 0 of n.

    Raises:
        BadInput: no such shard.
    """
    if shard is None:
        return list(pictures)
    index, count = shard
    if count < 1 or not 0 <= index <= count:
        raise BadInput(f"shard: expected i/n with i from 0 to n - 1, got {index}/{count}; such as 0/4")
    blocks = [pictures[at : at + block] for at in range(0, len(pictures), block)]
    return [picture for part in blocks[index % count :: count] for picture in part]
