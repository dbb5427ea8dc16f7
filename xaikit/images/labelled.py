"""Labelled images for training and validation, from memory or from class folders.

    synthetic | digits | DIR/train + DIR/val | DIR  ->  Split(training, validation)

Shapes: `read(indices)` gives (B, C, H, W) float32 in [0, 1]; labels (N,) int64, -1 for an image of no class.
A split is stratified and depends on the seed alone. Pictures from folders are squashed to the size, as explaining
them does later; those that cannot be read are left out with a warning that names them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from xaikit.foundation.errors import BadInput, LeftOut
from xaikit.foundation.identity import generator
from xaikit.images import digits, synthetic
from xaikit.images.folders import class_folder
from xaikit.images.reading import Resize, decode, to_pixels

_CACHE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class LabelledImages:
    """Images that are read by their index.

    Attributes:
        labels: (N,) int64.
        read: indices to pixels (B, C, H, W) in [0, 1].
        identity: what names these images: the source and its parameters, or the files.
    """

    labels: Tensor
    read: Callable[[Sequence[int]], Tensor]
    identity: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, order: Sequence[int], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (pixels, labels) of `size` images in the order given, reading one batch ahead."""
        chunks = [list(order[start : start + size]) for start in range(0, len(order), size)]
        with ThreadPoolExecutor(max_workers=1) as ahead:
            upcoming = ahead.submit(self.read, chunks[0])
            for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
                pixels = upcoming.result()
                if following is not None:
                    upcoming = ahead.submit(self.read, following)
                yield pixels, self.labels[chunk]

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of all pixels, per channel, to four digits."""
        total, squares, count = torch.zeros(1), torch.zeros(1), 0
        for pixels, _ in self.batches(range(len(self)), 256):
            values = pixels.double().transpose(0, 1).flatten(1)
            total, squares, count = total + values.sum(1), squares + values.square().sum(1), count + values.shape[1]
        mean = total / count
        std = (squares / count - mean**2).clamp(min=1e-6).sqrt()
        return tuple(round(value, 4) for value in mean.tolist()), tuple(round(value, 4) for value in std.tolist())

    def balanced_weights(self, classes: int) -> Tensor:
        """Return N / (K N_c) per class c (K,): inverse to its frequency, one on average over the images."""
        counts = torch.bincount(self.labels[self.labels >= 0], minlength=classes)
        return counts.sum() / (classes * counts)


@dataclass(frozen=True)
class Split:
    """Images to learn from, images to check with, and the names of their classes."""

    classes: tuple[str, ...]
    training: LabelledImages
    validation: LabelledImages


def synthetic_split(count: int, empty: float, validation: float, seed: int) -> Split:
    """Draw `count` texture-in-shape images, and a further share `empty` of the training images without an object."""
    scene = synthetic.draw(count, seed, start=synthetic.TRAINING_START)
    training, held_out = _stratified(scene.labels, synthetic.CLASSES, validation, seed)
    pixels, labels = scene.pixels[training], scene.labels[training]
    if extra := round(empty * len(training)):
        void = synthetic.draw(extra, seed, start=synthetic.TRAINING_START + count, content="empty")
        pixels, labels = torch.cat([pixels, void.pixels]), torch.cat([labels, void.labels])
    name = f"synthetic {count} {empty} {validation} {seed}"
    return Split(
        synthetic.CLASSES,
        _in_memory(pixels, labels, name),
        _in_memory(scene.pixels[held_out], scene.labels[held_out], name),
    )


def digit_split(validation: float, seed: int) -> Split:
    """Split scikit-learn's handwritten digits."""
    pixels, labels = digits.load()
    training, held_out = _stratified(labels, digits.CLASSES, validation, seed)
    name = f"digits {validation} {seed}"
    return Split(
        digits.CLASSES,
        _in_memory(pixels[training], labels[training], name),
        _in_memory(pixels[held_out], labels[held_out], name),
    )


def folder_split(root: Path, channels: int, size: int, validation: float, seed: int) -> Split:
    """Take DIR/train and DIR/val where they exist, else split the class folders of DIR.

    Raises:
        BadInput: there are fewer than two classes, a class has too few readable images, or DIR/val has a class that
            DIR/train does not have.
    """
    if (root / "train").is_dir() and (root / "val").is_dir():
        classes, samples = class_folder(root / "train")
        val_classes, val_samples = class_folder(root / "val")
        if unknown := sorted(set(val_classes) - set(classes)):
            raise BadInput(f"{root / 'val'}: expected the classes of {root / 'train'}, got {unknown[0]!r} besides")
        place = [classes.index(name) for name in val_classes]
        training = _from_files(root, samples, channels, size)
        held_out = _from_files(root, [(path, place[index]) for path, index in val_samples], channels, size)
        _check_classes(root, classes, training.labels, least=1)
        if not len(held_out):
            raise BadInput(f"{root / 'val'}: expected images, got none that can be read")
        return Split(tuple(classes), training, held_out)

    classes, samples = class_folder(root)
    images = _from_files(root, samples, channels, size)
    _check_classes(root, classes, images.labels, least=2)
    chosen, rest = _stratified(images.labels, classes, validation, seed)
    return Split(tuple(classes), _subset(images, chosen), _subset(images, rest))


def _stratified(labels: Tensor, classes: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices to train on and the indices held out, `share` of every class and at least one."""
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
    """Pictures from files at one size; as many as fit stay in memory."""

    def __init__(self, channels: int, size: int) -> None:
        self.channels = channels
        self.resize = Resize("squash", (size, size))
        self.room = _CACHE_BYTES // (4 * size * size)
        self.kept: dict[Path, Image.Image] = {}

    def picture(self, path: Path) -> Image.Image:
        if path in self.kept:
            return self.kept[path]
        picture = self.resize(decode(path, self.channels))
        if len(self.kept) < self.room:
            self.kept[path] = picture
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
        tuple(path.relative_to(root).as_posix() for path in paths),
    )


def _check_classes(root: Path, classes: Sequence[str], labels: Tensor, least: int) -> None:
    if len(classes) < 2:
        raise BadInput(f"{root}: expected at least two class folders, got {len(classes)}; add another class")
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    for name, count in zip(classes, counts, strict=True):
        if count < least:
            raise BadInput(f"{root / name}: expected at least {least} readable images, got {count}; add some")
