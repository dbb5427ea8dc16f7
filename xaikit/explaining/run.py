"""An explain run: read every image, explain it by all methods at once, draw and write the results.

    files -> portions -> read each -> attribute_all (shared passes) -> panel, overlays, values, records

A portion that fails is retried image by image; an image that fails alone becomes one record with its reason. What is
written of an image is written in one step, which Ctrl-C, SIGTERM and SIGHUP wait for; a run that is killed or finds the
disk full loses the portion at hand. Memory is that of one portion, whatever the number of images.
"""

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaikit import __version__
from xaikit.explaining.names import result_names
from xaikit.explaining.records import Record, Records
from xaikit.explaining.request import request
from xaikit.explaining.results import ResultsFolder
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.identity import SCHEMA_VERSION
from xaikit.foundation.interrupts import uninterrupted
from xaikit.foundation.texts import printable, shown_path
from xaikit.images.folders import sha256
from xaikit.images.overlays import Picture
from xaikit.images.placing import Frame, frame_notes
from xaikit.images.reading import ReadPolicy, Resize, read, to_picture
from xaikit.images.scaling import Range
from xaikit.methods.base import Method, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.model.target import Contrast, resolve_target
from xaikit.run.attribution import Attribution, View
from xaikit.run.context import Context
from xaikit.run.portions import attempt, by_size, reason
from xaikit.run.showing import caption, flag_notes

Array = np.ndarray[Any, Any]
Draw = Callable[
    [Array, Sequence[tuple[str, Array, Array | None, bool]], str, str, Sequence[str], Frame | None],
    tuple[Array, Mapping[str, Array]],
]
"""(picture, [(method, heatmap, values or None, signed)], caption, title, notes, frame) -> (panel, overlays by method).

The frame says where the maps lie in the picture; None is the whole picture.
"""

_PORTION = 16  # images explained together
_PASSES = 1600  # maximal passes of a portion, so an interrupt loses little work; slow methods take smaller portions


@dataclass
class Result:
    """The result of a run.

    Args:
        run: facts that hold for all images: command, versions, device, seed, model, date, counts.
        records: one record per image and method in input order, and one per failed image, as results.json has them.
        done: number of images explained.
        failed: number of inputs that failed.
        interrupted: whether the user interrupted the run.
    """

    run: dict[str, Any]
    records: Records = field(default_factory=Records)
    done: int = 0
    failed: int = 0
    interrupted: bool = False


def explain(
    files: Iterable[tuple[Path, XaikitError | None]],
    methods: Sequence[Method],
    output: str | Path,
    draw: Draw | None,
    *,
    target: Any = None,
    context: Context | None = None,
    view: View = "original",
    value_range: Range | None = None,
    resize: ReadPolicy | None = None,
    command: str = "",
    notice: Callable[[str], None] = lambda line: None,
) -> Result:
    """Explain image files by several methods of one classifier and write a folder of results.

    A run that is asked the same of the same pictures as the one before, in the same folder, continues it: images that
    are explained are kept, the others are explained. Results of any other run are moved to `earlier` in the folder. A
    run that explains no image leaves the folder as it was.

    Args:
        files: paths, each with None or with the error found there, as `images.folders.walk_each` yields them.
        methods: methods bound to the same classifier.
        output: folder to write.
        draw: draws panel and overlays of an image; None writes no pictures.
        target: None (top class), index, label or `Contrast` of them, the same for all images.
        context: seed, portions, progress over images.
        view: "original" draws the whole pictures, "crop" what the network saw.
        value_range: the values that become 0 and 1, of pictures with more than 8 bits, as in `Classifier.read`.
        resize: how pictures are resized, as in `Classifier.read`.
        command: command line to record.
        notice: called with one line for each failure, and for results that are kept or moved.

    Raises:
        BadInput: the target does not fit the model, the output cannot be written, holds one of the files among its
            pictures or is written by another run, or all readable images, at least two, fail for the same reason.
    """
    files = list(files)
    context = context or Context()
    classifier = methods[0].classifier
    resolve_target(target, torch.zeros(1, classifier.classes), classifier.labels)
    _check_apart(files, Path(output))
    resizing = classifier.resizing(resize)
    names, shown = [shown_path(path) for path, _ in files], None if draw is None else view
    asked = request(methods, target, context, names, resizing, shown, value_range)
    result = Result(about(methods, target, context, command) | {"request": asked})
    begin = time.perf_counter()
    with ResultsFolder.open(output, result.run, notice) as folder:
        run = _Run(methods, folder, draw, target, context, resizing, view, value_range, notice, result)
        try:
            run.walk(files)
        except KeyboardInterrupt:
            result.interrupted = True
        except BadInput as error:
            if not result.done:
                raise
            raise BadInput(f"{error}; {result.done} images are kept, the same run again continues") from error
        run.tell()
        result.run |= {
            "images": result.done,
            "failed": result.failed,
            "interrupted": result.interrupted,
            "seconds": round(time.perf_counter() - begin, 3),
        }
        if result.done:
            with uninterrupted():
                folder.conclude(result.run, result.records)
    return result


def _check_apart(files: Sequence[tuple[Path, XaikitError | None]], output: Path) -> None:
    """Check that no file is among the pictures that the run replaces."""
    written = [output.resolve() / name for name in ("panels", "overlays", "earlier")]
    for path, _ in files:
        if any(path.resolve().is_relative_to(folder) for folder in written):
            raise BadInput(
                f"{path}: expected pictures outside the output's panels, overlays and earlier results; "
                "choose another output with -o"
            )


@dataclass(frozen=True)
class _Image:
    """One input: its pixels, what they show of the picture and the whole picture, or the error that prevented it."""

    path: Path
    name: str
    sha256: str | None
    content: Tensor | XaikitError
    frame: Frame | None = None
    original: Picture | None = None


_Outcome = list[Attribution] | Exception
"""The attributions of one image, one per method, or the error that prevented them."""


@dataclass
class _Run:
    methods: Sequence[Method]
    folder: ResultsFolder
    draw: Draw | None
    target: Any
    context: Context
    resizing: Resize
    view: View
    value_range: Range | None
    notice: Callable[[str], None]
    result: Result
    held: list[str] = field(default_factory=list)
    first: Exception | None = None
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def classifier(self) -> Classifier:
        return self.methods[0].classifier

    def walk(self, files: Sequence[tuple[Path, XaikitError | None]]) -> None:
        """Explain all files.

        Raises:
            BadInput: all readable images failed for the same reason, so that the request is wrong.
        """
        names = result_names([path for path, _ in files])
        self._keep_only_unchanged(files, names)
        self._show(0, len(files))
        size = self._portion_size()
        for start in range(0, len(files), size):
            portion = range(start, min(start + size, len(files)))
            known = {index: records for index in portion if (records := self.folder.known(names[index]))}
            images = {index: self._read(*files[index], names[index]) for index in portion if index not in known}
            outcomes = dict(zip(images, self._outcomes(list(images.values())), strict=True))
            for index in portion:
                if index in known:
                    self.result.records += known[index]
                    self.result.done += 1
                elif isinstance(outcome := outcomes[index], Exception):
                    self._fail(images[index], outcome)
                else:
                    self._write(index, images[index], outcome)
            self._show(portion.stop, len(files))
            if self.result.done or not self._fail_alike():
                self.tell()
            elif start == 0 and portion.stop < len(files):
                self.notice(
                    f"the first {len(portion)} pictures fail alike, trying the others: {next(iter(self.reasons))}"
                )
        if self.first is not None and self._fail_alike():
            raise self.first

    def _keep_only_unchanged(self, files: Sequence[tuple[Path, XaikitError | None]], names: Sequence[str]) -> None:
        """Keep the results of an earlier run of the same request if every picture in them is the same."""
        paths = {name: path for name, (path, error) in zip(names, files, strict=True) if error is None}
        kept = self.folder.kept
        if kept and not all(name in paths and _unchanged(paths[name], records) for name, records in kept.items()):
            self.folder.kept = {}
        if self.folder.kept:
            self.notice(f"{len(self.folder.kept)} of {len(files)} pictures are explained already and are kept")

    def _fail_alike(self) -> bool:
        """Return whether no image was explained, and at least two that could be read failed for one reason."""
        alike = isinstance(self.first, XaikitError) and len(self.reasons) == 1
        return alike and self.reasons.total() > 1 and not self.result.done

    def tell(self) -> None:
        """Give notice of the failures so far."""
        for line in self.held:
            self.notice(line)
        self.held.clear()

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
            found = read(path, self.classifier.channels, self.resizing, self.value_range)
            shown = found.shown if self.view == "original" else None
            return _Image(path, name, digest, found.pixels.to(self.classifier.device), found.frame, shown)
        except XaikitError as unreadable:
            return _Image(path, name, digest, unreadable)

    def _outcomes(self, images: Sequence[_Image]) -> list[_Outcome]:
        """Return the outcome of each image; neighbours of equal size are explained together."""
        outcomes: list[_Outcome] = []
        for group in by_size(images, _size, max(1, len(images))):
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
        path, file, message = printable(image.path), shown_path(image.path), printable(reason(error))
        if isinstance(image.content, Tensor):
            self.first = self.first or error.with_traceback(None)
            self.reasons[reason(error)] += 1
        self.result.failed += 1
        self.result.records.append({"file": file, "sha256": image.sha256, "error": message.replace(path, file)})
        self.held.append(message if message.startswith(path) else f"{path}: {message}")

    def _write(self, place: int, image: _Image, attributions: list[Attribution]) -> None:
        """Draw and write the results of one image, and add its records."""
        assert isinstance(image.content, Tensor)
        drawn = None if self.draw is None else self._drawn(self.draw, image, image.content, attributions)
        values = {attribution.method: attribution.values[0].cpu().numpy() for attribution in attributions}
        assert image.frame is not None
        source = (shown_path(image.path), image.sha256, image.frame)
        records = [record_of(self.classifier, attribution, *source) for attribution in attributions]
        with uninterrupted():
            self.result.records += self.folder.write(place, image.name, drawn, values, records)
            self.result.done += 1

    def _drawn(
        self, draw: Draw, image: _Image, pixels: Tensor, attributions: list[Attribution]
    ) -> tuple[Array, Mapping[str, Array]]:
        """Return the panel and the overlays of one image."""
        pairs = zip(self.methods, attributions, strict=True)
        maps = [attribution.drawable(signed=method.signed) for method, attribution in pairs]
        title, text = printable(image.path.name), caption(attributions[0], 0)
        lines = flag_notes({attribution.method: attribution for attribution in attributions})
        picture, frame = to_picture(pixels), None
        if image.original is not None and image.frame is not None:
            picture, frame = image.original, image.frame
            lines = [*frame_notes([frame]), *lines]
        return draw(picture, maps, text, title, lines, frame)


def record_of(classifier: Classifier, attribution: Attribution, file: str, digest: str | None, frame: Frame) -> Record:
    """Return the record of one map in results.json.

    Args:
        classifier: the model.
        attribution: the map of one image.
        file: what the record calls the picture.
        digest: hash of the picture's file.
        frame: what the network saw of it.
    """
    regression = classifier.output == "regression"
    return {
        "file": file,
        "sha256": digest,
        "original_size": frame.original,
        "box": frame.box,
        "model": classifier.name,
        "weights": classifier.weights,
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


def about(methods: Sequence[Method], target: Any, context: Context, command: str) -> dict[str, Any]:
    """Return the facts of a run in results.json."""
    classifier = methods[0].classifier
    return {
        "command": printable(command),
        "schema": SCHEMA_VERSION,
        "versions": {"xaikit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "device": str(classifier.device),
        "seed": context.seed,
        "model": {"name": classifier.name, "weights": classifier.weights, "fingerprint": classifier.fingerprint},
        "methods": [method.name for method in methods],
        **_target(target),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _target(target: Any) -> dict[str, Any]:
    if isinstance(target, Contrast):
        against = "runner-up" if target.against is None else target.against
        return _target(target.target) | {"against": against}
    return {"target": "top" if target is None else target}


def _size(image: _Image) -> tuple[int, ...]:
    return tuple(image.content.shape) if isinstance(image.content, Tensor) else ()


def _unchanged(path: Path, records: Records) -> bool:
    """Return whether a file still has the content that its records name."""
    try:
        content = sha256(path)
    except BadInput:
        return False
    return all(record.get("sha256") == content for record in records)
