"""The worker computes the rows of a chunk, in this process, in another one or on another machine.

    chunk -> read pictures -> blocks of one physical batch -> score -> rows
    a block that fails -> each method alone -> each image alone -> a row with the reason

A batch always holds the same images and the worker has a fixed number of threads, so rows agree in every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from xaikit import __version__
from xaikit.api import load
from xaikit.benchmark.cache import Remembered
from xaikit.benchmark.dataset import Content, Dataset, Picture, Reader, Sample, open_data
from xaikit.benchmark.environment import steady
from xaikit.benchmark.given_maps import GivenMaps
from xaikit.benchmark.identity import environment, unit_id
from xaikit.benchmark.libraries import open_library
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.own import Own
from xaikit.benchmark.plan import Chunk, Setting, settings
from xaikit.benchmark.rows import ROW_SCHEMA, Row
from xaikit.benchmark.score import Images, score
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.suite_entries import SuiteModel
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.identity import canonical_json, fingerprint
from xaikit.foundation.paths import without_folders
from xaikit.images.hashes import image_hashes
from xaikit.methods.activation.reference_library import Library
from xaikit.methods.base import Method
from xaikit.model.classifier import Classifier
from xaikit.model.target import resolve_target
from xaikit.run.context import Context
from xaikit.run.portions import attempt, by_size, reason


@dataclass
class Model:
    """One loaded model of the suite.

    Args:
        classifier: the network.
        pictures: the images to explain, with the model's class indices as labels.
        read: reader of the pictures; may run concurrently with `work`, in a thread or in other processes.
        settings: settings of the plan.
        methods: methods bound so far, by setting id.
        library: reference library, loaded when the first method needs it.
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
    """Computes the chunks of one suite; keeps one model loaded at a time.

    Args:
        suite: the suite to run.
        store: store that rows are written to.
        device: "auto", "cpu", "cuda:1", ...
        threads: number of threads while computing.
        own: classifiers and images of the caller.
    """

    def __init__(self, suite: Suite, store: Store, device: str, threads: int, own: Own | None = None) -> None:
        self.suite = suite
        self.store = store
        self.device = device
        self.threads = threads
        self.measures = {measure.title: measure.build() for measure in suite.measures}
        self.own = own or Own()
        self.dataset: Dataset = open_data(suite.data, self.own.images)
        self._model: tuple[int, Model] | None = None

    def model(self, index: int) -> Model:
        """Return a model of the suite, loaded.

        Raises:
            XaikitError: the model cannot be loaded, or a method does not support it.
        """
        if self._model is None or self._model[0] != index:
            self._model = None
            entry = self.suite.models[index]
            with steady(self.threads):
                classifier = self._classifier(entry)
                if self.suite.target not in ("top", "label"):
                    resolve_target(self.suite.target, torch.zeros(1, classifier.classes), classifier.labels)
                pictures = self.dataset.labelled(classifier, self.suite.data)
                planned = settings(self.suite, entry, classifier, self.dataset.evidence, self.own.maps)
            read = Reader.of(self.suite.data, classifier, self.own.images)
            self._model = index, Model(classifier, pictures, read, planned)
        return self._model[1]

    def _classifier(self, entry: SuiteModel) -> Classifier:
        if entry.own:
            return self.own.classifiers[entry.name]
        return load(entry.name, entry.weights, device=self.device, layer=entry.layer)

    def work(self, chunk: Chunk, contents: Sequence[Content]) -> list[Row]:
        """Compute a chunk, write its rows and return them."""
        model = self.model(chunk.model)
        self._check_environment(chunk, model.classifier)
        pairs = list(zip(chunk.pictures, contents, strict=True))
        blocks = by_size(pairs, lambda pair: _kind(pair[1]), self.suite.batch)
        with steady(self.threads):
            rows = [row for block in blocks for row in self._block(model, chunk.settings, block)]
        rows = [row for row in rows if row["unit_id"] not in chunk.done]
        self.store.write(chunk.id, rows, self.measures)
        return rows

    def _check_environment(self, chunk: Chunk, classifier: Classifier) -> None:
        with steady(self.threads):
            here, planned = environment(classifier.device), chunk.settings[0].about["environment"]
        if here != planned:
            raise BadInput(
                f"environment: expected that of the plan ({planned}), got {here}; use the same on all machines"
            )

    def _block(self, model: Model, settings: Sequence[Setting], block: Sequence[tuple[Picture, Content]]) -> list[Row]:
        """Return the rows of a block; an image that cannot be read gives a failure row for each setting."""
        failed = [(picture, content) for picture, content in block if isinstance(content, XaikitError)]
        samples = [(picture, content) for picture, content in block if isinstance(content, Sample)]
        rows = [self._failure(setting, picture, error) for picture, error in failed for setting in settings]
        if samples:
            for seed in dict.fromkeys(setting.seed for setting in settings):
                rows += self._attempt(model, [setting for setting in settings if setting.seed == seed], samples)
        return rows

    def _attempt(self, model: Model, settings: Sequence[Setting], block: Sequence[tuple[Picture, Sample]]) -> list[Row]:
        """Return the rows of all settings and images; on failure, retry each setting alone, then each image alone."""
        rows: list[Row] = []
        outcomes = attempt(lambda some: self._scored(model, some, block), settings)
        for setting, outcome in zip(settings, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                rows += outcome
                continue
            single = attempt(lambda some, setting=setting: self._scored(model, [setting], some)[0], block)  # type: ignore[misc]
            for (picture, _), row in zip(block, single, strict=True):
                rows.append(self._failure(setting, picture, row) if isinstance(row, Exception) else row)
        return rows

    def _scored(
        self, model: Model, settings: Sequence[Setting], block: Sequence[tuple[Picture, Sample]]
    ) -> list[list[Row]]:
        """Return for each setting its rows, one per image."""
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
        masks_by_hash = None if images.masks is None else dict(zip(image_hashes(pixels), images.masks, strict=True))
        methods = {setting.method: self.bound(setting, masks_by_hash) for setting in settings}
        by_name = {setting.method: setting for setting in settings}
        context = Context(seed=settings[0].seed, chunk_size=self.suite.batch)
        rows = score(
            methods,
            images,
            self._target(images),
            measures=self.measures,
            levels=self.suite.levels,
            fill=self.suite.fill,
            context=context,
            warm=model.warm,
            keep=self._cache(by_name, list(pictures.values())),
        )
        model.warm.update(methods)
        finished = [self._finished(row, by_name[row["method"]], pictures[row["image_id"]]) for row in rows]
        return [[row for row in finished if row["setting"] == setting.id] for setting in settings]

    def _cache(self, settings: Mapping[str, Setting], pictures: Sequence[Picture]) -> Remembered | None:
        if self.suite.maps == "drop":
            return None
        names = {
            method: [fingerprint({"map": setting.map_id, "image": picture.id}) for picture in pictures]
            for method, setting in settings.items()
        }
        return Remembered(self.store, names)

    def _target(self, images: Images) -> Any:
        match self.suite.target:
            case "top":
                return None
            case "label":
                if images.labels is None or bool((images.labels < 0).any()):
                    raise BadInput("target: expected labels for target 'label', got images without labels; use 'top'")
                return images.labels
            case target:
                return target

    def bound(self, setting: Setting, masks: Mapping[str, torch.Tensor] | None = None) -> Method:
        """Return the method of a setting, bound to the loaded model.

        Args:
            setting: setting of the loaded model.
            masks: (H, W) bool, keyed by the content hash of the image, for the oracles.
        """
        assert self._model is not None
        index, model = self._model
        if setting.method in self.own.maps:
            return GivenMaps(model.classifier, self.own.maps[setting.method])
        if setting.entry is None:
            if masks is None:
                raise BadInput(f"{setting.method}: expected a mask of the image, got none; add it")
            return ORACLES[setting.method](model.classifier, masks)
        if setting.id not in model.methods:
            layer = self.suite.models[index].layer
            method = setting.entry.build(model.classifier, layer)
            if setting.library is not None:
                method = setting.entry.build(model.classifier, layer, self._library(setting.library))
            model.methods[setting.id] = method
        return model.methods[setting.id]

    def _library(self, identity: str) -> Library | None:
        """Return the reference library of the loaded model."""
        assert self._model is not None
        index, model = self._model
        references = self.suite.models[index].library or self.suite.library
        if references is not None and model.library is None:
            context = Context(chunk_size=self.suite.batch)
            model.library = open_library(references, identity, model.classifier, self.store, context)
        return model.library

    def _finished(self, row: Row, setting: Setting, picture: Picture) -> Row:
        own = {"label": picture.label, "layer": row["layer"], "status": "ok"}
        return row | setting.about | self._identity(setting, picture) | own

    def _failure(self, setting: Setting, picture: Picture, error: Exception) -> Row:
        params = canonical_json({} if setting.entry is None else setting.entry.params)
        own: Row = {"label": picture.label, "params": params, "flags": [], "o_soft": [], "o_binary": []}
        text = without_folders(reason(error), [self.suite.data.path] if self.suite.data.path is not None else [])
        return setting.about | own | self._identity(setting, picture) | {"status": "error", "error": text}

    def _identity(self, setting: Setting, picture: Picture) -> Row:
        return {
            "unit_id": unit_id(setting.id, picture.id),
            "picture": picture.id,
            "image_id": picture.name,
            "setting": setting.id,
            "schema": ROW_SCHEMA,
            "threads": self.threads,
            "version": __version__,
        }


def _kind(content: Content) -> tuple[int, ...]:
    """Return what is equal in all images of a batch: their size, and whether their evidence is known."""
    return (*content.pixels.shape, content.mask is not None) if isinstance(content, Sample) else ()
