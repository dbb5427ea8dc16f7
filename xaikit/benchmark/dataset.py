"""The images of a benchmark: listed first, decoded later in portions.

    data -> Dataset(pictures) -> labels as the model's class indices -> Reader -> Sample(pixels, mask) or an error

Planning reads the bytes of each file once, to identify its content, and decodes nothing. A picture that changes between
planning and decoding is an error. Synthetic images are rounded to eight bits, like files. A reader holds no network, so
it also works in other processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from xaikit.benchmark.identity import picture_id
from xaikit.benchmark.score import Images
from xaikit.benchmark.suite_entries import Data
from xaikit.foundation.errors import BadInput, XaikitError, XaikitWarning
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.texts import named
from xaikit.images.decoding import Decoded, decode, to_pixels
from xaikit.images.evidence import Evidence, find_evidence
from xaikit.images.folders import class_folder, sha256, walk
from xaikit.images.hashes import image_hashes
from xaikit.images.reading import Resize, resize_policy
from xaikit.images.synthetic import CLASSES, draw
from xaikit.images.tables import read_table
from xaikit.methods.activation.labelled_folder import class_indices
from xaikit.model.classifier import Classifier


@dataclass(frozen=True)
class Picture:
    """One image that has not been read yet.

    Args:
        name: unique in its dataset: the path below the folder, or the index and class of a synthetic image.
        content: identifies the content of the image: the hash of its file or pixels, or seed and index of a synthetic
            one.
        label: class index, or None.
        path: file of the image; None for one without a file.
        place: index of an image without a file in its sequence.
        stamp: size and time of the last change of its files when their content was hashed.
        mask: its evidence, or None.
    """

    name: str
    content: str
    label: int | None = None
    path: Path | None = None
    place: int = 0
    stamp: tuple[int, ...] = (0, 0)
    mask: Evidence | None = None

    @cached_property
    def id(self) -> str:
        """The identity of the picture: its name, content and label."""
        return picture_id(self.name, self.content, self.label)


class Changed(BadInput):
    """A picture changed after the benchmark was planned."""


@dataclass(frozen=True)
class Sample:
    """One decoded image: pixels (C, H, W) in [0, 1], and the mask (H, W) of its evidence, or None if unknown."""

    pixels: Tensor
    mask: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as numpy arrays; tensors would keep a file open for every image sent between processes."""
        return _sample, (self.pixels.numpy(), None if self.mask is None else self.mask.numpy())


Content = Sample | XaikitError
"""A decoded image, or the error that prevented reading it."""


@dataclass(frozen=True)
class Dataset:
    """Pictures with their labels.

    Args:
        pictures: the images, in order.
        classes: class names that the labels index; empty if the labels are the model's class indices.
        evidence: whether samples have masks.
    """

    pictures: tuple[Picture, ...]
    classes: tuple[str, ...] = ()
    evidence: bool = False

    def labelled(self, classifier: Classifier, data: Data) -> tuple[Picture, ...]:
        """Return the pictures with the model's class indices as labels.

        Raises:
            BadInput: the folders are not the model's classes although the data are of kind "classes", or a label is not
                one of its class indices.
        """
        if not self.classes or data.path is None:
            self._check_labels(classifier, data)
            return self.pictures
        try:
            indices = class_indices(self.classes, classifier, data.path)
        except BadInput:
            if data.kind == "classes":
                raise
            return tuple(replace(picture, label=None) for picture in self.pictures)
        return tuple(
            picture if picture.label is None else replace(picture, label=indices[picture.label])
            for picture in self.pictures
        )

    def _check_labels(self, classifier: Classifier, data: Data) -> None:
        for picture in self.pictures if data.labels is not None or data.kind == "given" else ():
            if picture.label is not None and picture.label >= classifier.classes:
                expected = f"a class index below {classifier.classes}"
                of = f"{data.labels or 'labels'}: {picture.name}"
                raise BadInput(f"{of}: expected {expected}, got {picture.label}; correct it")


def open_data(data: Data, given: Images | None = None) -> Dataset:
    """Return the pictures of a suite's data.

    Args:
        data: the suite's data.
        given: the images of data of kind "given".

    Raises:
        BadInput: the folder does not exist or has no images, or the labels cannot be read.
    """
    if given is not None:
        return Dataset(_select(_given_pictures(given), data), evidence=given.masks is not None)
    if data.path is None:
        pictures = [_synthetic_picture(index, data.seed) for index in range(data.count)]
        return Dataset(_select(pictures, data), CLASSES, evidence=True)
    if data.kind == "classes" or (data.kind == "auto" and _is_class_folder(data.path)):
        names, files = class_folder(data.path)
        pictures = [_file_picture(path, data.path, label) for path, label in files]
        return Dataset(_select(_with_masks(pictures, data), data), tuple(names), data.masks is not None)
    if not data.path.is_dir():
        raise BadInput(f"{data.path}: expected a folder of images, got no folder; check the path")
    pictures = [_file_picture(path, data.path, None) for path in walk([data.path])]
    labels = {} if data.labels is None else _labels(data.path / data.labels, [picture.name for picture in pictures])
    labelled = [replace(picture, label=labels.get(picture.name)) for picture in pictures]
    return Dataset(_select(_with_masks(labelled, data), data), evidence=data.masks is not None)


@dataclass(frozen=True)
class Reader:
    """Decodes pictures to the input size of one model.

    Args:
        data: the suite's data.
        channels: number of input channels of the model.
        resize: how an image is resized to the model's input.
        given: the images of data of kind "given", which are used as they are.
    """

    data: Data
    channels: int
    resize: Resize
    given: Images | None = None

    @classmethod
    def of(cls, data: Data, classifier: Classifier, given: Images | None = None) -> Reader:
        """Return the reader for a classifier.

        Raises:
            BadInput: resize is "squash", but the classifier has no fixed input size.
        """
        return cls(data, classifier.channels, resize_policy(data.resize, classifier.resize), given)

    def __call__(self, pictures: Sequence[Picture]) -> list[Content]:
        """Return each picture decoded, or the error that prevented reading it."""
        return [self._draw(picture) if picture.path is None else self._read(picture) for picture in pictures]

    def _draw(self, picture: Picture) -> Sample:
        if self.given is not None:
            masks = self.given.masks
            return Sample(self.given.pixels[picture.place], None if masks is None else masks[picture.place])
        scene = draw(1, self.data.seed, start=picture.place)
        return Sample((scene.pixels[0] * 255).round() / 255, scene.objects[0])

    def _read(self, picture: Picture) -> Content:
        path = picture.path
        assert path is not None
        try:
            decoded = decode(path, self.channels)
            mask = None if picture.mask is None else self._mask(picture.mask, decoded)
            sample = Sample(to_pixels(self.resize(decoded, str(path))), mask)
        except XaikitError as error:
            return error
        if _stamps(picture) != picture.stamp and _identified(picture).content != picture.content:
            return Changed(f"{picture.name}: expected the planned picture, got one that changed meanwhile; run again")
        return sample

    def _mask(self, evidence: Evidence, picture: Decoded) -> Tensor:
        """Return the evidence (H, W) of a picture, resized like it."""
        width, height = (picture[0] if isinstance(picture, tuple) else picture).size
        white = Image.fromarray(evidence.mask(height, width))
        resized = replace(self.resize, fill=(), interpolation="bilinear")(white, str(evidence.file))
        return to_pixels(resized)[0] > 0.5


def _sample(pixels: Any, mask: Any) -> Sample:
    return Sample(torch.from_numpy(pixels), None if mask is None else torch.from_numpy(mask))


def _is_class_folder(root: Path) -> bool:
    """Return whether all images of a folder lie in sub-folders and every sub-folder has images."""
    if not root.is_dir() or any(path.parent == root for path in walk([root])):
        return False
    try:
        class_folder(root)
    except BadInput:
        return False
    return True


def _synthetic_picture(index: int, seed: int) -> Picture:
    label = index % len(CLASSES)
    return Picture(f"{index:05d}-{CLASSES[label].replace(' ', '-')}", f"{seed}:{index}", label, place=index)


def _given_pictures(given: Images) -> list[Picture]:
    labels = [None] * len(given.names) if given.labels is None else given.labels.tolist()
    contents = image_hashes(given.pixels)
    if given.masks is not None:
        contents = [fingerprint(pair) for pair in zip(contents, image_hashes(given.masks[:, None]), strict=True)]
    return [
        Picture(named(name), content, label, place=place)
        for place, (name, content, label) in enumerate(zip(given.names, contents, labels, strict=True))
    ]


def _file_picture(path: Path, root: Path, label: int | None) -> Picture:
    """Return a picture whose content is not known yet."""
    return Picture(named(path.relative_to(root).as_posix()), "", label, path)


def _with_masks(pictures: list[Picture], data: Data) -> list[Picture]:
    """Return pictures with their evidence; those that have none are warned of.

    Raises:
        BadInput: there is no evidence of any picture.
    """
    if data.masks is None:
        return pictures
    evidence = find_evidence(data.masks, [picture.name for picture in pictures])
    found = [replace(picture, mask=evidence.get(picture.name)) for picture in pictures]
    lost = [picture.name for picture in found if picture.mask is None]
    if lost:
        warnings.warn(
            f"{data.masks}: {len(lost):,} of {len(found):,} pictures have no mask, such as {lost[0]!r}; they are "
            "left out by the oracle and by measures that need one",
            XaikitWarning,
            stacklevel=2,
        )
    return found


def _identified(picture: Picture) -> Picture:
    """Return a picture with the hash of its file; a file that cannot be read fails when it is decoded."""
    if picture.path is None:
        return picture
    stamp = _stamps(picture)
    try:
        content = sha256(picture.path)
        if picture.mask is not None:
            content = fingerprint([content, picture.mask.content])
        return replace(picture, content=content, stamp=stamp)
    except BadInput:
        return replace(picture, content="unreadable", stamp=stamp)


def _stamps(picture: Picture) -> tuple[int, ...]:
    files = (picture.path, None if picture.mask is None else picture.mask.file)
    return tuple(number for file in files if file is not None for number in _stamp(file))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns


def _select(pictures: list[Picture], data: Data) -> tuple[Picture, ...]:
    """Return the pictures in the data's share, at most its limit, in order; a larger limit only adds pictures."""
    low, high = data.share
    hashes = {picture.name: int(fingerprint(picture.name)[:8], 16) / 16**8 for picture in pictures}
    in_share = [name for name, value in hashes.items() if low <= value < high]
    kept = set(sorted(in_share, key=lambda name: hashes[name])[: data.limit])
    return tuple(_identified(picture) for picture in pictures if picture.name in kept)


def _labels(path: Path, names: Collection[str]) -> dict[str, int]:
    """Return the class index of each file that a CSV names.

    Args:
        path: the CSV file, with or without a byte order mark.
        names: names of all pictures.
    """
    lines = read_table(path, {"file": str, "class_index": int})
    labels: dict[str, int] = {}
    for name, label in lines:
        if name in labels:
            raise BadInput(f"{path}: expected each file once, got {name!r} twice; remove a line")
        if label < 0:
            raise BadInput(f"{path}: {name}: expected a class index from 0, got {label}; correct it")
        labels[name] = label
    if not labels.keys() & set(names):
        got = f"none of {len(labels):,}, such as {next(iter(labels))!r}" if labels else "no line"
        raise BadInput(f"{path}: expected names of the pictures, got {got}; write their paths below the folder")
    if lost := sorted(labels.keys() - set(names)):
        warnings.warn(
            f"{path}: {len(lost):,} of {len(labels):,} names are those of no picture, such as {lost[0]!r}",
            XaikitWarning,
            stacklevel=2,
        )
    return labels
