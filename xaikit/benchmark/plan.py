"""The plan: all units of a suite, and the missing ones grouped into chunks.

    setting = conditions, method with parameters, library, seed             everything but the image
    unit    = setting x image                                               -> unit_id
    chunk   = a few images x the settings of one model that they lack       -> one file of rows

identity.py defines the identities. The units depend on the suite, the data, the code and the environment alone. A
chunk computes whole batches and returns the rows of missing units.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from xaikit.benchmark.dataset import Picture
from xaikit.benchmark.given_maps import GivenMaps
from xaikit.benchmark.identity import environment, unit_id
from xaikit.benchmark.libraries import library_id
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.suite_entries import SuiteMethod, SuiteModel
from xaikit.foundation.code import code, network_code
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
    """Everything that defines a unit except its image.

    Args:
        id: hash of everything the numbers depend on.
        map_id: hash of everything the map depends on.
        library: identity of the reference library, or None if the method needs none or the suite has none.
        method: name of the method in rows.
        family: family of the method.
        entry: the suite's entry, or None for the oracles and the caller's maps.
        seed: seed of random draws.
        cost: declared passes per image for explaining and measuring.
        shared: declared passes per image that all settings of one model share.
        about: columns that are the same in all rows of the setting.
    """

    id: str
    map_id: str
    library: str | None
    method: str
    family: str
    entry: SuiteMethod | None
    seed: int
    cost: Cost
    shared: Cost
    about: dict[str, Any] = field(compare=False)


@dataclass(frozen=True)
class Chunk:
    """Images of one model and the settings that are missing for them.

    Args:
        model: index of the model in the suite.
        settings: the settings that are missing for some of the images.
        pictures: the images of one or several whole batches.
        done: units that are not missing; they are recomputed with the others, but not written again.
    """

    model: int
    settings: tuple[Setting, ...]
    pictures: tuple[Picture, ...]
    done: frozenset[str] = frozenset()

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The missing units."""
        every = (unit_id(setting.id, picture.id) for picture in self.pictures for setting in self.settings)
        return tuple(unit for unit in every if unit not in self.done)

    def __len__(self) -> int:
        return len(self.units)

    @property
    def id(self) -> str:
        """Hash of the missing units, 16 hexadecimal digits."""
        return fingerprint(list(self.units))

    @property
    def cost(self) -> Cost:
        """Declared passes of all its units."""
        images, shared = len(self.pictures), self.settings[0].shared
        return Cost(
            images * (shared.forwards + sum(setting.cost.forwards for setting in self.settings)),
            images * (shared.backwards + sum(setting.cost.backwards for setting in self.settings)),
        )


def settings(
    suite: Suite,
    model: SuiteModel,
    classifier: Classifier,
    evidence: bool,
    maps: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> list[Setting]:
    """Return the settings of one model for each seed, methods before controls, without methods beyond their budget.

    Args:
        suite: the suite.
        model: its entry of the model.
        classifier: the model.
        evidence: whether the evidence of the images is known.
        maps: the caller's maps, as in `Own`.

    Raises:
        BadInput: a method's parameters do not fit the classifier.
    """
    maps = maps or {}
    entries: list[SuiteMethod | str] = [*suite.methods, *maps, *suite.all_methods[len(suite.methods) :]]
    if evidence and suite.controls:
        entries += [name for name in ORACLES if name not in {method.title for method in suite.all_methods}]
    measures = {measure.title: measure.build() for measure in suite.measures}
    protocol = {
        "levels": suite.levels,
        "fill": suite.fill,
        "measures": {title: [measure.name, measure.params, code(type(measure))] for title, measure in measures.items()},
    }
    network = {
        "title": model.title,
        "fingerprint": classifier.fingerprint,
        "code": network_code(classifier.module),
        "labels": classifier.labels,
        "size": classifier.size,
        "resize": str(classifier.resize),
        "layer": model.layer,
    }
    common = {
        "schema": SCHEMA_VERSION,
        "dataset": suite.data.title,
        "resize": suite.data.resize,
        "model": network,
        "target": suite.target,
        "batch": suite.batch,
        "environment": environment(classifier.device),
    }
    bound = [
        (
            entry,
            _given(entry, classifier, maps) if isinstance(entry, str) else entry.build(classifier, model.layer),
        )
        for entry in entries
    ]
    size = classifier.size or _NOMINAL
    planned = [
        (seed, entry, method)
        for seed in suite.seeds
        for entry, method in bound
        if isinstance(entry, str) or entry.affords(method.cost(size))
    ]
    references = model.library or suite.library
    needed = references is not None and any("library" in method.needs for _, _, method in planned)
    library = library_id(references, classifier) if references is not None and needed else None
    return [_setting(suite, model, entry, method, seed, library, common, protocol) for seed, entry, method in planned]


def _given(name: str, classifier: Classifier, maps: Mapping[str, Mapping[str, Tensor]]) -> Method:
    return GivenMaps(classifier, maps[name]) if name in maps else ORACLES[name](classifier)


def _setting(
    suite: Suite,
    model: SuiteModel,
    entry: SuiteMethod | str,
    method: Method,
    seed: int,
    library: str | None,
    common: dict[str, Any],
    protocol: dict[str, Any],
) -> Setting:
    classifier = method.classifier
    title = entry if isinstance(entry, str) else entry.title
    conditions = fingerprint(common | {"protocol": protocol})
    inner = getattr(method, "inner", method)  # the method that this one runs on noisy copies
    map_facts = common | {
        "method": method.name,
        "params": method.params,
        "code": code(type(method), type(inner)),
        "layer": str(method.place) if isinstance(method, LayerMethod) else None,
        "library": library if "library" in method.needs else None,
        "seed": seed,
    }
    about = {
        "conditions": conditions,
        "dataset": suite.data.title,
        "model": model.title,
        "weights": classifier.weights,
        "model_fingerprint": classifier.fingerprint,
        "method": title,
        "family": method.family,
        "layer": map_facts["layer"],
        "code": map_facts["code"],
        "library": map_facts["library"],
        "target_rule": str(suite.target),
        "levels": suite.levels,
        "fill": suite.fill,
        "seed": seed,
        "batch": suite.batch,
        "protocol": fingerprint(protocol),
        "environment": common["environment"],
    }
    return Setting(
        id=fingerprint(map_facts | {"label": title, "protocol": protocol}),
        map_id=fingerprint(map_facts),
        library=map_facts["library"],
        method=title,
        family=method.family,
        entry=None if isinstance(entry, str) else entry,
        seed=seed,
        cost=_cost(suite, method.cost(classifier.size or _NOMINAL)),
        shared=_shared_cost(suite),
        about=about,
    )


def _cost(suite: Suite, explaining: Cost) -> Cost:
    """Return the passes per image for explaining and both keep curves, plus at most what other measures need."""
    measures = [entry.build() for entry in suite.measures]
    costs = [measure.cost() for measure in measures if not isinstance(measure, KeptConfidence)]
    explanations = 1 + sum(measure.explanations() for measure in measures)
    return Cost(
        explanations * explaining.forwards + 2 * suite.levels - 1 + sum(cost.forwards for cost in costs),
        explanations * explaining.backwards + sum(cost.backwards for cost in costs),
    )


def _shared_cost(suite: Suite) -> Cost:
    """Return the passes per image that all maps of the image share."""
    costs = [entry.build().image_cost() for entry in suite.measures]
    return Cost(2 + sum(cost.forwards for cost in costs), sum(cost.backwards for cost in costs))


def chunks(
    model: int,
    all_settings: Sequence[Setting],
    pictures: Sequence[Picture],
    done: Container[str],
    batch: int,
    size: int | None = None,
) -> list[Chunk]:
    """Return the missing units of one model in chunks of whole batches.

    A batch always holds the same images, whatever is missing: rounding depends on the other images of a batch, and it
    can change the order of nearly equal pixels and so the values of a row.

    Args:
        model: index of the model in the suite.
        all_settings: settings of the model.
        pictures: all images, in order.
        done: units that are done.
        batch: number of images explained together.
        size: number of images per chunk, rounded up to whole batches; None takes one batch.
    """
    step = batch * max(1, -(-(size or batch) // batch))
    result = []
    for start in range(0, len(pictures), step):
        images = tuple(pictures[start : start + step])
        finished = {
            unit for setting in all_settings for picture in images if (unit := unit_id(setting.id, picture.id)) in done
        }
        missing = tuple(
            setting
            for setting in all_settings
            if any(unit_id(setting.id, picture.id) not in finished for picture in images)
        )
        if missing:
            result.append(Chunk(model, missing, images, frozenset(finished)))
    return result


def in_shard(pictures: Sequence[Picture], shard: Shard | None, block: int) -> list[Picture]:
    """Return the images of shard i of n: every n-th block of `block` images, starting at block i (n is taken as 0).

    Raises:
        BadInput: the index is not between 0 and n.
    """
    if shard is None:
        return list(pictures)
    index, count = shard
    if count < 1 or not 0 <= index <= count:
        raise BadInput(f"shard: expected i/n with i from 0 to n - 1, got {index}/{count}")
    blocks = [pictures[start : start + block] for start in range(0, len(pictures), block)]
    return [picture for chosen in blocks[index % count :: count] for picture in chosen]
