"""Labelled images for training and validation, from memory or from class folders.

    synthetic | digits | DIR | DIR/train, DIR/val, DIR/test  ->  Split(training, validation, test)

Splits are stratified and depend only on the seed. Images from folders are squashed to the input size, as they are later
for explanations; those that cannot be read are skipped with a warning that names them.

Shapes: `read(indices)` returns (B, C, H, W) float32 in [0, 1]; labels (N,) int64, -1 for images without a class.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput, LeftOut, XaikitWarning
from xaikit.foundation.identity import generator
from xaikit.images import digits, synthetic
from xaikit.images.decoding import Decoded, decode, to_pixels
from xaikit.images.folders import class_folder, sha256, split_folders
from xaikit.images.reading import Resize

_CACHE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class LabelledImages:
    """Images that are read by index.

    Attributes:
        labels: (N,) int64 class indices.
        read: function from indices to pixels (B, C, H, W) in [0, 1].
        identity: what identifies these images: the source and its parameters, or the files and their content.
    """

    labels: Tensor
    read: Callable[[Sequence[int]], Tensor]
    identity: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Sequence[int], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (pixels, labels) in batches of `size` images, in the given order, reading one batch ahead."""
        batches = [list(order[start : start + size]) for start in range(0, len(order), size)]
        with ThreadPoolExecutor(max_workers=1) as reader:
            pending = reader.submit(self.read, batches[0])
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                pixels = pending.result()
                if following is not None:
                    pending = reader.submit(self.read, following)
                yield pixels, self.labels[batch]

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and standard deviation of all pixels, per channel, rounded to four digits."""
        total, squares, count = torch.zeros(1), torch.zeros(1), 0
        for pixels, _ in self.batches(range(len(self)), 256):
            values = pixels.double().transpose(0, 1).flatten(1)
            total, squares, count = total + values.sum(1), squares + values.square().sum(1), count + values.shape[1]
        mean = total / count
        std = (squares / count - mean**2).clamp(min=1e-6).sqrt()
        return tuple(round(value, 4) for value in mean.tolist()), tuple(round(value, 4) for value in std.tolist())

    def balanced_weights(self, classes: int) -> Tensor:
        """Return the weight N / (K N_c) of each class c, (K,): inverse to its frequency, 1 on average over images."""
        counts = torch.bincount(self.labels[self.labels >= 0], minlength=classes)
        return counts.sum() / (classes * counts)


@dataclass(frozen=True)
class Split:
    """Images for training, validation and, where the data has them, the test, and the names of their classes."""

    classes: tuple[str, ...]
    training: LabelledImages
    validation: LabelledImages
    test: LabelledImages | None = None

    @property
    def identity(self) -> list[tuple[str, ...]]:
        """What identifies the images."""
        return [self.training.identity, self.validation.identity, self.test.identity if self.test else ()]


def synthetic_split(count: int, empty: float, validation: float, seed: int) -> Split:
    """Return a split of `count` synthetic images, plus a share `empty` of further training images without an object."""
    scene = synthetic.draw(count, seed, start=synthetic.TRAINING_START)
    training, held_out = _stratified(scene.labels, synthetic.CLASSES, validation, seed)
    pixels, labels = scene.pixels[training], scene.labels[training]
    if extra := round(empty * len(training)):
        background = synthetic.draw(extra, seed, start=synthetic.TRAINING_START + count, content="empty")
        pixels, labels = torch.cat([pixels, background.pixels]), torch.cat([labels, background.labels])
    name = f"synthetic {count} {empty} {validation} {seed}"
    return Split(
        synthetic.CLASSES,
        _in_memory(pixels, labels, name),
        _in_memory(scene.pixels[held_out], scene.labels[held_out], name),
    )


def digit_split(validation: float, seed: int) -> Split:
    """Return a split of scikit-learn's handwritten digits."""
    pixels, labels = digits.load()
    training, held_out = _stratified(labels, digits.CLASSES, validation, seed)
    name = f"digits {validation} {seed}"
    return Split(
        digits.CLASSES,
        _in_memory(pixels[training], labels[training], name),
        _in_memory(pixels[held_out], labels[held_out], name),
    )


def folder_split(root: Path, channels: int, size: int, validation: float, seed: int) -> Split:
    """Return the splits of a folder that has them (folders.py), else a random split of its class folders.

    Without a validation folder, a random share of the training images is held out.

    Raises:
        BadInput: there are splits without one for training, fewer than two classes, a class with too few readable
            images, or a class of another split that the training split does not have.

    Warns:
        XaikitWarning: images of the training split are in another split as well.
    """
    splits = split_folders(root)
    if splits and "train" not in splits:
        names = ", ".join(folder.name for folder in splits.values())
        raise BadInput(f"{root}: expected a folder train among the splits, got {names}; add it")
    trained = splits.get("train", root)
    classes, samples = class_folder(trained)
    images = _from_files(root, samples, channels, size)
    _check_classes(trained, classes, images.labels, least=1 if "val" in splits else 2)
    others = {
        split: _other_split(root, folder, classes, channels, size)
        for split, folder in splits.items()
        if split != "train"
    }
    for split, other in others.items():
        if shared := len(_contents(images) & _contents(other)):
            warnings.warn(f"{splits[split]}: {shared} of its images are also in {trained}", XaikitWarning, stacklevel=3)
    test = others.get("test")
    if "val" in others:
        return Split(tuple(classes), images, others["val"], test)
    chosen, rest = _stratified(images.labels, classes, validation, seed)
    return Split(tuple(classes), _subset(images, chosen), _subset(images, rest), test)


def _other_split(root: Path, folder: Path, classes: list[str], channels: int, size: int) -> LabelledImages:
    """Return the images of a split with the labels of the training split's classes."""
    names, samples = class_folder(folder)
    if unknown := sorted(set(names) - set(classes)):
        raise BadInput(f"{folder}: expected the classes of the training split, got also {unknown[0]!r}")
    images = _from_files(root, [(path, classes.index(names[index])) for path, index in samples], channels, size)
    if not len(images):
        raise BadInput(f"{folder}: expected images, got none that can be read")
    return images


def _contents(images: LabelledImages) -> set[str]:
    return {identity.rpartition(" ")[2] for identity in images.identity}


def _stratified(labels: Tensor, classes: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the training indices and the held-out indices: `share` of every class, and at least one image."""
    training, held_out = [], []
    for index, name in enumerate(classes):
        members = (labels == index).nonzero().flatten()
        order = members[torch.randperm(len(members), generator=generator(seed, name, "split"))].tolist()
        count = min(max(1, round(share * len(order))), len(order) - 1)
        held_out += order[:count]
        training += order[count:]
    return sorted(training), sorted(held_out)


def _in_memory(pixels: Tensor, labels: Tensor, name: str) -> LabelledImages:
    return LabelledImages(labels, lambda indices: pixels[list(indices)], (name,))


def _subset(images: LabelledImages, indices: list[int]) -> LabelledImages:
    return LabelledImages(
        images.labels[indices],
        lambda chosen: images.read([indices[i] for i in chosen]),
        tuple(images.identity[i] for i in indices),
    )


class _Pictures:
    """Images from files at one size, cached in memory up to `_CACHE_BYTES`."""

    def __init__(self, channels: int, size: int) -> None:
        self.channels = channels
        self.resize = Resize("squash", (size, size))
        self.room = _CACHE_BYTES // (4 * size * size)  # in pictures; a float picture has 4 bytes a channel and pixel
        self.cache: dict[Path, Decoded] = {}

    def picture(self, path: Path) -> Decoded:
        if path in self.cache:
            return self.cache[path]
        picture = self.resize(decode(path, self.channels))
        size = len(picture) if isinstance(picture, tuple) else 1
        if size <= self.room:
            self.room -= size
            self.cache[path] = picture
        return picture

    def problem(self, path: Path) -> BadInput | None:
        try:
            self.picture(path)
        except BadInput as error:
            return error
        return None

    def read(self, paths: Sequence[Path]) -> Tensor:
        with ThreadPoolExecutor() as pool:
            return torch.stack([to_pixels(picture) for picture in pool.map(self.picture, paths)])


def _from_files(root: Path, samples: list[tuple[Path, int]], channels: int, size: int) -> LabelledImages:
    pictures = _Pictures(channels, size)
    paths, labels = [], []
    with ThreadPoolExecutor() as pool:
        problems = pool.map(pictures.problem, [path for path, _ in samples])
        for (path, label), problem in zip(samples, problems, strict=True):
            if problem is None:
                paths.append(path)
                labels.append(label)
            else:
                warnings.warn(f"left out of the training: {problem}", LeftOut, stacklevel=4)
    return LabelledImages(
        torch.tensor(labels, dtype=torch.long),
        lambda indices: pictures.read([paths[i] for i in indices]),
        tuple(f"{path.relative_to(root).as_posix()} {sha256(path)}" for path in paths),
    )


def _check_classes(root: Path, classes: Sequence[str], labels: Tensor, least: int) -> None:
    if len(classes) < 2:
        raise BadInput(f"{root}: expected at least two class folders, got {len(classes)}")
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    for name, count in zip(classes, counts, strict=True):
        if count < least:
            raise BadInput(f"{root / name}: expected at least {least} readable images, got {count}")
