"""The images of a benchmark: named first, read later, a few at a time.

    data -> Dataset(pictures) -> labelled by the model's classes -> Reader -> Sample(pixels, mask) or the reason why not

A picture's key holds its name and size in bytes, so that a plan needs no decoding and a file that was changed is
measured again. Drawn images are rounded to eight bits, as files are. A reader knows no network, so that it works in
other processes as well.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xaikit.api import class_indices
from xaikit.benchmark.suite_entries import Data
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.foundation.identity import fingerprint
from xaikit.images.folders import class_folder, walk
from xaikit.images.reading import Resize, decode, resize_policy, to_pixels
from xaikit.images.synthetic import CLASSES, draw
from xaikit.model.classifier import Classifier


@dataclass(frozen=True)
class Picture:
    """One image by name.

    Args:
        name: unique in its dataset: path below the folder, or what was drawn.
        key: what its content depends on.
        label: class index, or None.
        path: of the file; None for a drawn one.
        place: of a drawn image in its sequence.
    """

    name: str
    key: str
    label: int | None = None
    path: Path | None = None
    place: int = 0


@dataclass(frozen=True)
class Sample:
    """One image as it was read: pixels (C, H, W) in [0, 1], and the mask (H, W) of its evidence, if that is known."""

    pixels: Tensor
    mask: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel from process to process as arrays; torch would hold a file open for every image."""
        return _sample, (self.pixels.numpy(), None if self.mask is None else self.mask.numpy())


Content = Sample | XaikitError
"""One image as it was read, or the reason why it was not."""


@dataclass(frozen=True)
class Dataset:
    """Pictures with their labels.

    Args:
        pictures: in order.
        classes: names of the classes that the labels count, or none where they are the model's own.
        evidence: whether samples have masks.
    """

    pictures: tuple[Picture, ...]
    classes: tuple[str, ...] = ()
    evidence: bool = False

    def labelled(self, classifier: Classifier, data: Data) -> tuple[Picture, ...]:
        """Return the pictures with the model's class indices.

        Raises:
            BadInput: the folders are not the model's classes, and the data's kind says they are.
        """
        if not self.classes or data.path is None:
            return self.pictures
        try:
            index = class_indices(self.classes, classifier, data.path)
        except BadInput:
            if data.kind == "classes":
                raise
            return tuple(replace(picture, label=None) for picture in self.pictures)
        return tuple(
            picture if picture.label is None else replace(picture, label=index[picture.label])
            for picture in self.pictures
        )


def open_data(data: Data) -> Dataset:
    """Return the pictures of a suite's data.

    Raises:
        BadInput: there is no such folder, it has no images, or the labels are not as they should be.
    """
    if data.path is None:
        pictures = [_drawn(place, data.seed) for place in range(data.count)]
        return Dataset(_chosen(pictures, data), CLASSES, evidence=True)
    if data.kind == "classes" or (data.kind == "auto" and _sorted_by_class(data.path)):
        names, files = class_folder(data.path)
        pictures = [_file(path, data.path, label) for path, label in files]
        return Dataset(_chosen(pictures, data), tuple(names))
    if not data.path.is_dir():
        raise BadInput(f"{data.path}: expected a folder of images, got no folder; check the path")
    labels = {} if data.labels is None else _labels(data.path / data.labels)
    pictures = [_file(path, data.path, None) for path in walk([data.path])]
    return Dataset(_chosen([replace(one, label=labels.get(one.name)) for one in pictures], data))


@dataclass(frozen=True)
class Reader:
    """Reads pictures as one model takes them.

    Args:
        data: where they are.
        channels: of the model's input.
        resize: how a file becomes an input.
    """

    data: Data
    channels: int
    resize: Resize

    @classmethod
    def of(cls, data: Data, classifier: Classifier) -> Reader:
        """Return the reader of a classifier.

        Raises:
            BadInput: pictures are to be squashed to a size that the classifier does not have.
        """
        return cls(data, classifier.channels, resize_policy(data.resize, classifier.resize))

    def __call__(self, pictures: Sequence[Picture]) -> list[Content]:
        """Return each picture, or the reason why it cannot be read."""
        return [self._drawn(one) if one.path is None else self._read(one.path) for one in pictures]

    def _drawn(self, picture: Picture) -> Sample:
        scene = draw(1, self.data.seed, start=picture.place)
        return Sample((scene.pixels[0] * 255).round() / 255, scene.objects[0])

    def _read(self, path: Path) -> Content:
        try:
            return Sample(to_pixels(self.resize(decode(path, self.channels), str(path))))
        except XaikitError as error:
            return error


def _sample(pixels: Any, mask: Any) -> Sample:
    return Sample(torch.from_numpy(pixels), None if mask is None else torch.from_numpy(mask))


def _sorted_by_class(root: Path) -> bool:
    """Say whether all images of a folder lie in sub-folders, each of which has some."""
    if not root.is_dir() or any(path.parent == root for path in walk([root])):
        return False
    try:
        class_folder(root)
    except BadInput:
        return False
    return True


def _drawn(place: int, seed: int) -> Picture:
    label = place % len(CLASSES)
    return Picture(f"{place:05d}-{CLASSES[label].replace(' ', '-')}", f"{seed}:{place}", label, place=place)


def _file(path: Path, root: Path, label: int | None) -> Picture:
    name = path.relative_to(root).as_posix()
    return Picture(name, f"{name}:{path.stat().st_size}", label, path)


def _chosen(pictures: list[Picture], data: Data) -> tuple[Picture, ...]:
    """Return the data's share of pictures, at most its limit, in order; a larger limit keeps those of a smaller."""
    low, high = data.share
    places = {picture.name: int(fingerprint(picture.name)[:8], 16) / 16**8 for picture in pictures}
    inside = [name for name, place in places.items() if low <= place < high]
    kept = set(sorted(inside, key=lambda name: places[name])[: data.limit])
    return tuple(picture for picture in pictures if picture.name in kept)


def _labels(path: Path) -> dict[str, int]:
    """Return the class index by file of a CSV."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return {row["file"]: int(row["class_index"]) for row in csv.DictReader(stream)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path}: expected a CSV with the columns file and class_index, got {error!r}; mend it"
        ) from error
