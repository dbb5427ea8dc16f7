"""An explain run: read every image, explain it by all methods at once, draw and write the results.

    files -> portions -> read each -> attribute_all (shared passes) -> panel, overlays, values, records

A portion that fails is retried image by image; an image that fails alone becomes one record with its reason. The files
and records of an image are written in one uninterrupted step, so they are consistent after Ctrl-C. Memory is that of
one portion, whatever the number of images.
"""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaikit import __version__
from xaikit.explaining.results import ResultsFolder, printable, uninterrupted, unique_names
from xaikit.foundation.errors import XaikitError
from xaikit.foundation.identity import SCHEMA_VERSION
from xaikit.images.folders import sha256
from xaikit.images.reading import to_picture
from xaikit.methods.base import Method, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.target import resolve_target
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context
from xaikit.run.portions import attempt, by_size, reason

Array = np.ndarray[Any, Any]
Draw = Callable[[Array, Sequence[tuple[str, Array, Array | None, bool]], str, str], tuple[Array, Mapping[str, Array]]]
"""(picture, [(method, heatmap, pixel values or None, signed)], caption, title) -> (panel, overlays by method)."""

_PORTION = 16  # images explained together
_PASSES = 1600  # maximal passes of a portion, so an interrupt loses little work; slow methods take smaller portions


@dataclass
class Result:
    """The result of a run.

    Args:
        run: facts that hold for all images: command, versions, device, seed, model, date, counts.
        records: one record per image and method in input order, and one per failed image.
        done: number of images explained.
        failed: number of inputs that failed.
        interrupted: whether the user interrupted the run.
    """

    run: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    interrupted: bool = False


def explain(
    files: Iterable[tuple[Path, XaikitError | None]],
    methods: Sequence[Method],
    output: str | Path,
    draw: Draw,
    *,
    target: Any = None,
    context: Context | None = None,
    command: str = "",
    notice: Callable[[str], None] = lambda line: None,
) -> Result:
    """Explain image files by several methods of one classifier and write a folder of results.

    Args:
        files: paths, each with None or with the error found there, as `images.folders.walk_each` yields them.
        methods: methods bound to the same classifier.
        output: folder to write.
        draw: draws panel and overlays of an image.
        target: None (top class), index or label, the same for all images.
        context: seed, portions, progress over images.
        command: command line to record.
        notice: called with one line for each failure.

    Raises:
        BadInput: the target does not fit the model, the output cannot be written, or all images of the first portion
            fail for the same reason, because the methods do not support the model.
    """
    files = list(files)
    context = context or Context()
    classifier = methods[0].classifier
    resolve_target(target, torch.zeros(1, classifier.classes), classifier.labels)
    result = Result(_about(methods, target, context, command))
    begin = time.perf_counter()
    with ResultsFolder.open(output) as folder:
        try:
            _Run(methods, folder, draw, target, context, notice, result).walk(files)
        except KeyboardInterrupt:
            result.interrupted = True
    result.run |= {
        "images": result.done,
        "failed": result.failed,
        "interrupted": result.interrupted,
        "seconds": round(time.perf_counter() - begin, 3),
    }
    with uninterrupted():
        folder.conclude(result.run, result.records)
    return result


@dataclass(frozen=True)
class _Image:
    """One input: its pixels, or the error that prevented reading it."""

    path: Path
    name: str
    sha256: str | None
    content: Tensor | XaikitError


_Outcome = list[Attribution] | Exception
"""The attributions of one image, one per method, or the error that prevented them."""


@dataclass(frozen=True)
class _Run:
    methods: Sequence[Method]
    folder: ResultsFolder
    draw: Draw
    target: Any
    context: Context
    notice: Callable[[str], None]
    result: Result

    @property
    def classifier(self) -> Classifier:
        return self.methods[0].classifier

    def walk(self, files: Sequence[tuple[Path, XaikitError | None]]) -> None:
        names = unique_names([path for path, _ in files])
        self._show(0, len(files))
        size = self._portion_size()
        for start in range(0, len(files), size):
            portion = range(start, min(start + size, len(files)))
            images = [self._read(*files[index], names[index]) for index in portion]
            outcomes = self._outcomes(images)
            if not self.result.done:
                _raise_common(images, outcomes)
            for image, outcome in zip(images, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    self._fail(image, outcome)
                else:
                    self._write(image, outcome)
            self._show(portion.stop, len(files))

    def _portion_size(self) -> int:
        size = self.classifier.size or self.classifier.outline().size
        costs = [method.cost(size) for method in self.methods]
        passes = sum(cost.forwards + 2 * cost.backwards for cost in costs)
        return max(1, min(_PORTION, int(_PASSES / max(1, passes))))

    def _show(self, done: int, total: int) -> None:
        if self.context.progress is not None:
            self.context.progress(done, total, "images")

    def _read(self, path: Path, error: XaikitError | None, name: str) -> _Image:
        digest = None
        try:
            if error is not None:
                raise error
            digest = sha256(path)
            return _Image(path, name, digest, self.classifier.read(path)[0])
        except XaikitError as unreadable:
            return _Image(path, name, digest, unreadable)

    def _outcomes(self, images: Sequence[_Image]) -> list[_Outcome]:
        """Return the outcome of each image; neighbours of equal size are explained together."""
        outcomes: list[_Outcome] = []
        for group in by_size(images, _size, len(images)):
            contents = [image.content for image in group]
            pixels = [content for content in contents if isinstance(content, Tensor)]
            outcomes += (
                attempt(self._explained, pixels) if pixels else [e for e in contents if isinstance(e, XaikitError)]
            )
        return outcomes

    def _explained(self, pixels: Sequence[Tensor]) -> list[list[Attribution]]:
        attributions = attribute_all(self.methods, torch.stack(list(pixels)), self.target, self.context)
        return [[attribution[index : index + 1] for attribution in attributions] for index in range(len(pixels))]

    def _fail(self, image: _Image, error: Exception) -> None:
        file, message = printable(image.path), printable(reason(error))
        self.result.failed += 1
        self.result.records.append({"file": file, "sha256": image.sha256, "error": message})
        self.notice(message if message.startswith(file) else f"{file}: {message}")

    def _write(self, image: _Image, attributions: list[Attribution]) -> None:
        """Draw and write the results of one image, and add its records."""
        assert isinstance(image.content, Tensor)
        pairs = zip(self.methods, attributions, strict=True)
        maps = [attribution.drawable(signed=method.signed) for method, attribution in pairs]
        caption, title = _caption(attributions[0], self.classifier), printable(image.path.name)
        panel, overlays = self.draw(to_picture(image.content), maps, caption, title)
        values = {attribution.method: attribution.values[0].cpu().numpy() for attribution in attributions}
        with uninterrupted():
            outputs = self.folder.write(image.name, panel, overlays, values)
            for part in attributions:
                self.result.records.append(self._record(image, part) | {"outputs": outputs[part.method]})
            self.result.done += 1

    def _record(self, image: _Image, attribution: Attribution) -> dict[str, Any]:
        regression = self.classifier.output == "regression"
        return {
            "file": printable(image.path),
            "sha256": image.sha256,
            "model": self.classifier.name,
            "weights": self.classifier.weights,
            "layer": attribution.layer,
            "method": attribution.method,
            "target": int(attribution.target[0]),
            "label": attribution.target_names[0],
            "probability": None if regression else float(attribution.probabilities[0]),
            "score": float(attribution.scores[0]),
            "params": attribution.params,
            "flags": sorted(attribution.flags[0]),
            "completeness": None if attribution.completeness is None else float(attribution.completeness[0]),
            "seconds": round(attribution.seconds, 6),
        }


def _about(methods: Sequence[Method], target: Any, context: Context, command: str) -> dict[str, Any]:
    classifier = methods[0].classifier
    return {
        "command": printable(command),
        "schema": SCHEMA_VERSION,
        "versions": {"xaikit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(classifier.device),
        "seed": context.seed,
        "model": {"name": classifier.name, "weights": classifier.weights, "fingerprint": classifier.fingerprint},
        "methods": [method.name for method in methods],
        "target": "top" if target is None else target,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _size(image: _Image) -> tuple[int, ...]:
    return tuple(image.content.shape) if isinstance(image.content, Tensor) else ()


def _raise_common(images: Sequence[_Image], outcomes: Sequence[_Outcome]) -> None:
    """Raise the error if all readable images, at least two, failed with the same one: the request is wrong."""
    read = [outcome for image, outcome in zip(images, outcomes, strict=True) if isinstance(image.content, Tensor)]
    if len(read) > 1 and isinstance(read[0], XaikitError) and len({str(outcome) for outcome in read}) == 1:
        raise read[0]


def _caption(attribution: Attribution, classifier: Classifier) -> str:
    value = float(attribution.probabilities[0])
    number = f"{value:.3g}" if classifier.output == "regression" else f"{100 * value:.1f} %"
    return f"{attribution.target_names[0]} · {number}"
