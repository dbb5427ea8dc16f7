"""The worker: a chunk in, its rows out; the same in this process, in another, and on another machine.

    chunk -> read pictures -> blocks of one physical batch -> score -> rows
    a block that fails -> each method alone -> each image alone -> a row with the reason

Every pass has one padded size and the worker a fixed number of threads, so that a row has the same bits whatever
stands beside it in its chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from xaikit import __version__
from xaikit.api import load
from xaikit.benchmark.cache import Remembered
from xaikit.benchmark.dataset import Content, Dataset, Picture, Reader, Sample, open_data
from xaikit.benchmark.environment import steady
from xaikit.benchmark.libraries import open_library
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.plan import Chunk, Setting, settings, unit_id
from xaikit.benchmark.rows import Row
from xaikit.benchmark.score import Images, score
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.identity import SCHEMA_VERSION, canonical_json, fingerprint
from xaikit.images.hashes import image_hashes
from xaikit.methods.activation.library import Library
from xaikit.methods.base import Method
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context
from xaikit.run.portions import attempt, by_size, reason


@dataclass
class Model:
    """One model of the suite, opened.

    Args:
        classifier: the network.
        pictures: what is explained, labelled by the model's classes.
        read: reads them as the network takes them; may run beside `work`, in a thread or in other processes.
        settings: of the plan.
        methods: bound so far, by setting.
        library: of the methods that need one, once some does.
        warm: names of the methods that have run.
    """

    classifier: Classifier
    pictures: tuple[Picture, ...]
    read: Reader
    settings: list[Setting]
    methods: dict[str, Method] = field(default_factory=dict)
    library: Library | None = None
    warm: set[str] = field(default_factory=set)


class Worker:
    """Computes chunks of one suite; holds one model at a time.

    Args:
        suite: what is measured.
        store: where rows go.
        device: "auto", "cpu", "cuda:1", ...
        threads: of this process, while it computes.
    """

    def __init__(self, suite: Suite, store: Store, device: str, threads: int) -> None:
        self.suite = suite
        self.store = store
        self.device = device
        self.threads = threads
        self.measures = {one.title: one.build() for one in suite.measures}
        self.dataset: Dataset = open_data(suite.data)
        self._model: tuple[int, Model] | None = None

    def model(self, place: int) -> Model:
        """Return a model of the suite, opened.

        Raises:
            XaikitError: it cannot be loaded, or a method refuses it.
        """
        if self._model is None or self._model[0] != place:
            self._model = None
            asked = self.suite.models[place]
            with steady(self.threads):
                classifier = load(asked.name, asked.weights, device=self.device, layer=asked.layer)
                pictures = self.dataset.labelled(classifier, self.suite.data)
                planned = settings(self.suite, asked, classifier, self.dataset.evidence)
            self._model = place, Model(classifier, pictures, Reader.of(self.suite.data, classifier), planned)
        return self._model[1]

    def work(self, chunk: Chunk, contents: Sequence[Content]) -> list[Row]:
        """Compute a chunk, write its rows and return them."""
        model = self.model(chunk.model)
        pairs = list(zip(chunk.pictures, contents, strict=True))
        blocks = by_size(pairs, lambda pair: _size(pair[1]), self.suite.batch)
        with steady(self.threads):
            rows = [row for block in blocks for row in self._block(model, chunk.settings, block)]
        self.store.write(chunk.id, rows, self.measures)
        return rows

    def _block(self, model: Model, asked: Sequence[Setting], block: Sequence[tuple[Picture, Content]]) -> list[Row]:
        """Return the rows of images that are all read, or all not."""
        failed = [(picture, content) for picture, content in block if isinstance(content, XaikitError)]
        good = [(picture, content) for picture, content in block if isinstance(content, Sample)]
        rows = [self._failure(one, picture, error) for picture, error in failed for one in asked]
        if good:
            for seed in dict.fromkeys(one.seed for one in asked):
                rows += self._attempt(model, [one for one in asked if one.seed == seed], good)
        return rows

    def _attempt(self, model: Model, asked: Sequence[Setting], block: Sequence[tuple[Picture, Sample]]) -> list[Row]:
        """Return the rows of all settings and images; what fails is tried setting by setting, then image by image."""
        rows: list[Row] = []
        outcomes = attempt(lambda some: self._scored(model, some, block), asked)
        for setting, outcome in zip(asked, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                rows += outcome
                continue
            single = attempt(lambda some, setting=setting: self._scored(model, [setting], some)[0], block)  # type: ignore[misc]
            for (picture, _), row in zip(block, single, strict=True):
                rows.append(self._failure(setting, picture, row) if isinstance(row, Exception) else row)
        return rows

    def _scored(
        self, model: Model, asked: Sequence[Setting], block: Sequence[tuple[Picture, Sample]]
    ) -> list[list[Row]]:
        """Return one list of rows a setting, one row an image."""
        pixels = torch.stack([sample.pixels for _, sample in block])
        masks = [sample.mask for _, sample in block if sample.mask is not None]
        pictures = {picture.name: picture for picture, _ in block}
        labels = [-1 if picture.label is None else picture.label for picture in pictures.values()]
        images = Images(
            self.suite.data.title,
            list(pictures),
            pixels,
            torch.tensor(labels),
            torch.stack(masks) if len(masks) == len(block) else None,
        )
        known = None if images.masks is None else dict(zip(image_hashes(pixels), images.masks, strict=True))
        methods = {one.method: self.bound(one, known) for one in asked}
        by_name = {one.method: one for one in asked}
        context = Context(seed=asked[0].seed, chunk_size=self.suite.batch)
        rows = score(
            methods,
            images,
            self._target(images),
            measures=self.measures,
            levels=self.suite.levels,
            fill=self.suite.fill,
            context=context,
            warm=model.warm,
            keep=self._remembered(by_name, list(pictures.values())),
        )
        model.warm.update(methods)
        finished = [self._finished(row, by_name[row["method"]], pictures[row["image_id"]]) for row in rows]
        return [[row for row in finished if row["setting"] == one.id] for one in asked]

    def _remembered(self, asked: Mapping[str, Setting], pictures: Sequence[Picture]) -> Remembered | None:
        if self.suite.maps == "drop":
            return None
        names = {
            method: [fingerprint({"map": one.map_id, "image": picture.key}) for picture in pictures]
            for method, one in asked.items()
        }
        return Remembered(self.store, names)

    def _target(self, images: Images) -> Any:
        match self.suite.target:
            case "top":
                return None
            case "label":
                if images.labels is None or bool((images.labels < 0).any()):
                    raise BadInput("target: expected labels for target 'label', got images without; use 'top'")
                return images.labels
            case target:
                return target

    def bound(self, asked: Setting, masks: Mapping[str, torch.Tensor] | None = None) -> Method:
        """Return the method of a setting of the model that is open; the oracles take masks by the image's content."""
        assert self._model is not None
        model = self._model[1]
        if asked.entry is None:
            return ORACLES[asked.method](model.classifier, masks or {})
        if asked.id not in model.methods:
            bound = asked.entry.build(model.classifier, self._layer)
            if "library" in bound.needs:
                bound = asked.entry.build(model.classifier, self._layer, self._library(model))
            model.methods[asked.id] = bound
        return model.methods[asked.id]

    @property
    def _layer(self) -> str | None:
        assert self._model is not None
        return self.suite.models[self._model[0]].layer

    def _library(self, model: Model) -> Library | None:
        """Return the reference library of the model that is open, or None where the suite has none."""
        assert self._model is not None
        asked = self.suite.models[self._model[0]].library or self.suite.library
        if asked is not None and model.library is None:
            context = Context(chunk_size=self.suite.batch)
            model.library = open_library(asked, model.classifier, self.store.path / "libraries", context)
        return model.library

    def _finished(self, row: Row, asked: Setting, picture: Picture) -> Row:
        return (
            row
            | asked.about
            | self._identity(asked, picture)
            | {
                "label": picture.label,
                "layer": row["layer"],
                "status": "ok",
            }
        )

    def _failure(self, asked: Setting, picture: Picture, error: Exception) -> Row:
        params = canonical_json({} if asked.entry is None else asked.entry.params)
        known: Row = {"label": picture.label, "params": params, "flags": [], "o_soft": [], "o_binary": []}
        return asked.about | known | self._identity(asked, picture) | {"status": "error", "error": reason(error)}

    def _identity(self, asked: Setting, picture: Picture) -> Row:
        return {
            "unit_id": unit_id(asked, picture),
            "image_id": picture.name,
            "setting": asked.id,
            "schema": SCHEMA_VERSION,
            "threads": self.threads,
            "version": __version__,
        }


def _size(content: Content) -> tuple[int, ...]:
    return tuple(content.pixels.shape) if isinstance(content, Sample) else ()
