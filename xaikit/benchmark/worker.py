"""The worker computes the rows of a chunk, in this process, in another one or on another machine.

    chunk -> read pictures -> blocks of equal size -> for each setting: maps, kept or explained -> values -> rows
    images that fail together -> each image alone -> a row with the reason
    rows -> joined with what is known of their units -> written every ten seconds, and at the end of a chunk

A batch always holds the same images and the worker has a fixed number of threads, so rows agree in every run. A stop
loses what was computed since the last writing, and one step (see steps.py).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from xaikit import __version__
from xaikit.api import load
from xaikit.benchmark.cache import recall, remember
from xaikit.benchmark.dataset import Content, Dataset, Picture, Reader, Sample, open_data
from xaikit.benchmark.environment import steady
from xaikit.benchmark.given_maps import GivenMaps
from xaikit.benchmark.identity import environment, map_name, unit_id
from xaikit.benchmark.libraries import open_library
from xaikit.benchmark.oracle import ORACLES
from xaikit.benchmark.own import Own
from xaikit.benchmark.plan import Chunk, Setting, settings
from xaikit.benchmark.protocol import Protocol
from xaikit.benchmark.rows import MEASURE, ROW_SCHEMA, Row, values_of
from xaikit.benchmark.score import Block, Images, Run, explain, measured, targets
from xaikit.benchmark.steps import images_of_a_block, images_of_a_step, parts
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite import Suite
from xaikit.benchmark.suite_entries import SuiteModel
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import canonical_json
from xaikit.foundation.paths import without_folders
from xaikit.images.hashes import image_hashes
from xaikit.methods.activation.reference_library import Library
from xaikit.methods.base import Method
from xaikit.model.classifier import Classifier
from xaikit.model.target import Target, resolve_target
from xaikit.run.context import Context, Counters
from xaikit.run.cost import Cost
from xaikit.run.portions import attempt, by_size, reason

_PAUSE = 10.0  # seconds between two writings


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


@dataclass(frozen=True)
class _Scene:
    """Images of a chunk that share what is known of them.

    Args:
        model: the model.
        chunk: the chunk.
        block: the images.
        pictures: their identities.
        masks: (H, W) bool, keyed by the content hash of the image, or None.
        counters: where passes are counted.
    """

    model: Model
    chunk: Chunk
    block: Block
    pictures: Sequence[Picture]
    masks: Mapping[str, torch.Tensor] | None
    counters: Counters

    def step(self, cost: Cost) -> int:
        """Return the number of images in one step."""
        return images_of_a_step(self.model.classifier, self.block.pixels.shape[-2:], cost)


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
        self.protocol = Protocol.of(suite)
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

    def work(self, chunk: Chunk, contents: Sequence[Content], counters: Counters | None = None) -> Iterator[list[Row]]:
        """Compute a chunk and yield its rows, always after they have been written.

        Args:
            chunk: what to compute.
            contents: its pictures, decoded.
            counters: where forwards and backwards are counted.
        """
        model = self.model(chunk.model)
        self._check_environment(chunk, model.classifier)
        earlier = self.store.rows(chunk.earlier, chunk.units)
        computed = self._rows(model, chunk, contents, counters or Counters())
        waiting, written = list[Row](), time.monotonic()
        try:
            while (rows := self._next(computed)) is not None:
                waiting += [self._joined(row, earlier.get(row["unit_id"], ())) for row in rows]
                if waiting and time.monotonic() - written > _PAUSE:
                    ready, waiting, written = waiting, [], time.monotonic()
                    self._write(ready)
                    yield ready
        finally:
            self._write(waiting)
        yield waiting

    def _next(self, rows: Iterator[list[Row]]) -> list[Row] | None:
        with steady(self.threads):
            return next(rows, None)

    def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            self.store.write(rows, self.protocol.measures)

    def _joined(self, row: Row, earlier: Sequence[Row]) -> Row:
        """Return a row with the values that the best of the earlier rows of its unit has beside its own."""
        if row["status"] != "ok" or not earlier:
            return row
        known = max(earlier, key=lambda other: len(self.protocol.values & values_of(other["protocol"])))
        values = dict(values_of(known["protocol"])) | dict(values_of(row["protocol"]))
        own = {name: value for name, value in row.items() if value is not None or name.startswith(MEASURE)}
        return known | own | {"protocol": canonical_json(values)}

    def _check_environment(self, chunk: Chunk, classifier: Classifier) -> None:
        with steady(self.threads):
            here, planned = environment(classifier.device), chunk.settings[0].about["environment"]
        if here != planned:
            raise BadInput(
                f"environment: expected that of the plan ({planned}), got {here}; use the same on all machines"
            )

    def _rows(self, model: Model, chunk: Chunk, contents: Sequence[Content], counters: Counters) -> Iterator[list[Row]]:
        """Yield the rows of a chunk, step by step."""
        pairs = list(zip(chunk.pictures, contents, strict=True))
        for same in by_size(pairs, lambda pair: _kind(pair[1]), self.suite.batch):
            size = _kind(same[0][1])[-3:-1] or (1, 1)
            for block in parts(same, images_of_a_block(model.classifier, size)):
                yield from self._block(model, chunk, block, counters)

    def _block(
        self, model: Model, chunk: Chunk, block: Sequence[tuple[Picture, Content]], counters: Counters
    ) -> Iterator[list[Row]]:
        """Yield the rows of images that share what is known of them; without their target they are failures."""
        failed: list[tuple[Picture, Exception]] = []
        samples: list[tuple[Picture, Sample]] = []
        for picture, content in block:
            if isinstance(content, Sample):
                samples.append((picture, content))
            else:
                failed.append((picture, content))
        found = attempt(lambda some: self._targets(model, some, counters), samples) if samples else []
        good = []
        for (picture, sample), outcome in zip(samples, found, strict=True):
            if isinstance(outcome, Exception):
                failed.append((picture, outcome))
            else:
                good.append((picture, sample, outcome))
        yield [
            self._failure(setting, picture, error, chunk)
            for picture, error in failed
            for setting in chunk.settings
            if unit_id(setting.id, picture.id) in chunk.units
        ]
        if good:
            pictures = [picture for picture, _, _ in good]
            images = self._images([(picture, sample) for picture, sample, _ in good])
            target = Target.join([target for *_, target in good])
            own = Block(model.classifier, images, model.classifier.check(images.pixels), target)
            masks = None
            if images.masks is not None:
                masks = dict(zip(image_hashes(images.pixels), images.masks, strict=True))
            scene = _Scene(model, chunk, own, pictures, masks, counters)
            for setting in chunk.settings:
                yield from self._setting(scene, setting)

    def _setting(self, scene: _Scene, setting: Setting) -> Iterator[list[Row]]:
        """Yield the rows of one setting."""
        chunk, block, pictures = scene.chunk, scene.block, scene.pictures
        context = Context(seed=setting.seed, chunk_size=self.suite.batch, counters=scene.counters)
        measures, curves = self.protocol.measures_of(chunk.values), self.protocol.curves_of(chunk.values)

        def rows_of(some: Sequence[tuple[int, Run]]) -> list[Row]:
            places, runs = zip(*some, strict=True)
            method = self.bound(setting, scene.masks)
            rows = measured(method, block.take(places), runs, measures, curves, context)
            return [self._finished(row, setting, pictures[at], chunk) for at, row in zip(places, rows, strict=True)]

        for places in parts(range(len(block)), scene.step(setting.cost)):
            missing = [place for place in places if unit_id(setting.id, pictures[place].id) in chunk.units]
            runs = self._runs(scene, setting, places, missing, context) if missing else []
            failed = [(place, run) for place, run in zip(missing, runs, strict=True) if isinstance(run, Exception)]
            yield [self._failure(setting, pictures[place], error, chunk) for place, error in failed]
            good = [(place, run) for place, run in zip(missing, runs, strict=True) if isinstance(run, Run)]
            for some in parts(good, scene.step(self.protocol.cost(chunk.values, setting.cost))):
                yield [
                    self._failure(setting, pictures[place], row, chunk) if isinstance(row, Exception) else row
                    for (place, _), row in zip(some, attempt(rows_of, some), strict=True)
                ]

    def _runs(
        self, scene: _Scene, setting: Setting, places: Sequence[int], missing: Sequence[int], context: Context
    ) -> list[Run | Exception]:
        """Return the run of each missing image: kept, or explained together with all images of its step."""
        names = {place: map_name(setting.map_id, scene.pictures[place].id) for place in places}
        keep = self.suite.maps == "keep"
        known = [recall(self.store, names[place]) for place in missing] if keep else []
        kept = [run for run in known if run is not None]
        if len(kept) == len(missing):
            return list(kept)
        # an untimed explanation would double the work of an expensive method, and changes its time little
        cold = setting.method not in scene.model.warm and scene.step(setting.cost) > 1

        def explained(some: Sequence[int]) -> list[Run]:
            return explain(self.bound(setting, scene.masks), scene.block.take(some), context, cold)

        runs = dict(zip(places, attempt(explained, places), strict=True))
        scene.model.warm.add(setting.method)
        for place, run in runs.items():
            if keep and isinstance(run, Run):
                remember(self.store, names[place], run)
        return [runs[place] for place in missing]

    def _images(self, samples: Sequence[tuple[Picture, Sample]]) -> Images:
        labels = [-1 if picture.label is None else picture.label for picture, _ in samples]
        masks = [sample.mask for _, sample in samples if sample.mask is not None]
        return Images(
            self.suite.data.title,
            [picture.name for picture, _ in samples],
            torch.stack([sample.pixels for _, sample in samples]),
            torch.tensor(labels),
            torch.stack(masks) if len(masks) == len(samples) else None,
        )

    def _targets(self, model: Model, samples: Sequence[tuple[Picture, Sample]], counters: Counters) -> list[Target]:
        """Return the target of each image."""
        images = self._images(samples)
        pixels = model.classifier.check(images.pixels)
        context = Context(chunk_size=self.suite.batch, counters=counters)
        target = targets(model.classifier, pixels, self._target(images), context)
        return [target[place : place + 1] for place in range(len(target))]

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

    def _finished(self, row: Row, setting: Setting, picture: Picture, chunk: Chunk) -> Row:
        empty = dict.fromkeys(f"{MEASURE}{name}" for name in self.protocol.measures_of(chunk.values))
        own = {"label": picture.label, "layer": row["layer"], "batch": row["batch"], "status": "ok"}
        return empty | row | setting.about | self._identity(setting, picture, chunk) | own

    def _failure(self, setting: Setting, picture: Picture, error: Exception, chunk: Chunk) -> Row:
        params = canonical_json({} if setting.entry is None else setting.entry.params)
        own: Row = {"label": picture.label, "params": params, "flags": []}
        text = without_folders(reason(error), [self.suite.data.path] if self.suite.data.path is not None else [])
        return setting.about | own | self._identity(setting, picture, chunk) | {"status": "error", "error": text}

    def _identity(self, setting: Setting, picture: Picture, chunk: Chunk) -> Row:
        return {
            "unit_id": unit_id(setting.id, picture.id),
            "picture": picture.id,
            "image_id": picture.name,
            "setting": setting.id,
            "protocol": canonical_json({name: self.protocol.identities[name] for name in chunk.values}),
            "schema": ROW_SCHEMA,
            "threads": self.threads,
            "version": __version__,
        }


def _kind(content: Content) -> tuple[int, ...]:
    """Return what is equal in all images of a batch: their size, and whether their evidence is known."""
    return (*content.pixels.shape, content.mask is not None) if isinstance(content, Sample) else ()
