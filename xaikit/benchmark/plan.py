"""The plan: all units of a suite, and the missing ones grouped into chunks.

    setting = conditions, method with parameters, library, seed             everything but the image
    unit    = setting x image: a map                                        -> unit_id
    value   = unit x measure or keep curves                                 -> a column of the unit's row
    chunk   = a few images x the settings of one model x the values that they lack

identity.py defines the identities, protocol.py the values. The units depend on the suite, the data, the code and the
environment alone. A chunk returns the rows of the units that lack values.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from xaikit.benchmark.dataset import Picture
from xaikit.benchmark.given_maps import GivenMaps
from xaikit.benchmark.identity import environment, unit_id
from xaikit.benchmark.libraries import library_id
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.protocol import Protocol
from xaikit.benchmark.store import Found
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.suite_entries import SuiteMethod, SuiteModel
from xaikit.foundation.code import code, network_code
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import SCHEMA_VERSION, fingerprint
from xaikit.methods.base import LayerMethod, Method
from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost

Shard = tuple[int, int]
_NOMINAL = (224, 224)


@dataclass(frozen=True)
class Setting:
    """Everything that defines a unit except its image.

    Args:
        id: hash of everything but the image.
        map_id: hash of everything the map depends on but the image.
        library: identity of the reference library, or None if the method needs none or the suite has none.
        method: name of the method in rows.
        family: family of the method.
        entry: the suite's entry, or None for the oracles and the caller's maps.
        seed: seed of random draws.
        cost: declared passes per image for explaining.
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
    about: dict[str, Any] = field(compare=False)


@dataclass(frozen=True)
class Chunk:
    """Images of one model, and the settings that lack the same values for some of them.

    Args:
        model: index of the model in the suite.
        settings: the settings, cheap ones first: a stop loses what is under way.
        pictures: the images of one or several whole batches.
        values: columns of the values.
        units: the units whose rows lack them.
        earlier: names of the files with earlier rows of these units.
        cost: declared passes.
    """

    model: int
    settings: tuple[Setting, ...]
    pictures: tuple[Picture, ...]
    values: frozenset[str]
    units: frozenset[str]
    earlier: frozenset[str]
    cost: Cost

    def __len__(self) -> int:
        return len(self.units)

    @property
    def id(self) -> str:
        """16 hexadecimal digits that identify what is missing."""
        return fingerprint([self.units, self.values])


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
    return [_setting(suite, model, entry, method, seed, library, common) for seed, entry, method in planned]


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
) -> Setting:
    classifier = method.classifier
    title = entry if isinstance(entry, str) else entry.title
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
        "conditions": fingerprint(common),
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
        "seed": seed,
        "batch": suite.batch,
        "environment": common["environment"],
    }
    return Setting(
        id=fingerprint(map_facts | {"label": title}),
        map_id=fingerprint(map_facts),
        library=map_facts["library"],
        method=title,
        family=method.family,
        entry=None if isinstance(entry, str) else entry,
        seed=seed,
        cost=method.cost(classifier.size or _NOMINAL),
        about=about,
    )


class Plan(NamedTuple):
    """The chunks of one model.

    Args:
        chunks: what is missing.
        done: number of units that lack nothing.
        partial: number of units whose rows lack some of their values only.
    """

    chunks: list[Chunk]
    done: int
    partial: int


def plan(
    model: int,
    all_settings: Sequence[Setting],
    pictures: Sequence[Picture],
    rows: Mapping[str, Sequence[Found]],
    protocol: Protocol,
    batch: int,
    size: int | None = None,
    retry: bool = False,
) -> Plan:
    """Return the missing units of one model in chunks of whole batches.

    A batch always holds the same images, whatever is missing: rounding depends on the other images of a batch, and it
    can change the order of nearly equal pixels and so the values of a row.

    Args:
        model: index of the model in the suite.
        all_settings: settings of the model.
        pictures: all images, in order.
        rows: the rows that there are, by unit.
        protocol: the values of every row.
        batch: number of images explained together.
        size: number of images per chunk, rounded up to whole batches; None takes one batch.
        retry: whether to compute again what failed when exactly it was tried.
    """
    step = batch * max(1, -(-(size or batch) // batch))
    chunks, done, partial = list[Chunk](), 0, 0
    for start in range(0, len(pictures), step):
        images = tuple(pictures[start : start + step])
        groups: dict[frozenset[str], list[tuple[Setting, list[str]]]] = defaultdict(list)
        for setting in all_settings:
            lacking: set[str] = set()
            units = []
            for picture in images:
                unit = unit_id(setting.id, picture.id)
                known = rows.get(unit, ())
                values, measured = protocol.lacking(known), any(row.status == "ok" for row in known)
                complete = measured and not values
                done += complete
                failed = any(row.status != "ok" and row.values == values for row in known)
                if not complete and (retry or not failed):
                    units.append(unit)
                    lacking.update(name for name, _ in values)
                    partial += measured
            if units:
                groups[frozenset(lacking)].append((setting, units))
        chunks += [_chunk(model, images, values, members, rows, protocol) for values, members in groups.items()]
    return Plan(chunks, done, partial)


def _chunk(
    model: int,
    images: tuple[Picture, ...],
    values: frozenset[str],
    members: Sequence[tuple[Setting, Sequence[str]]],
    rows: Mapping[str, Sequence[Found]],
    protocol: Protocol,
) -> Chunk:
    shared = protocol.image_cost(values)
    forwards, backwards = len(images) * shared.forwards, len(images) * shared.backwards
    for setting, units in members:
        own = protocol.cost(values, setting.cost)
        forwards += len(units) * (setting.cost.forwards + own.forwards)
        backwards += len(units) * (setting.cost.backwards + own.backwards)
    missing = frozenset(unit for _, units in members for unit in units)
    files = frozenset(row.file.name for unit in missing for row in rows.get(unit, ()) if row.status == "ok")
    cheap_first = sorted(
        (setting for setting, _ in members), key=lambda one: one.cost.forwards + 2 * one.cost.backwards
    )
    return Chunk(model, tuple(cheap_first), images, values, missing, files, Cost(forwards, backwards))


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
