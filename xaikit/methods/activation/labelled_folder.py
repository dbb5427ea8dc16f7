"""Labelled images in a folder, DIR/<class>/*.jpg: their pixels and class indices, and their reference library.

Shapes: pixels (B, C, H, W) in [0, 1]; labels (B,) int64, the model's class indices.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput, LeftOut, XaikitError
from xaikit.images.folders import class_folder
from xaikit.methods.activation.reference_library import Library
from xaikit.model.classifier import Classifier

_BATCH = 32
_BUILT: WeakKeyDictionary[Classifier, tuple[list[object], Library]] = WeakKeyDictionary()


def library_of(source: str | Path, classifier: Classifier, layer: str, references: int) -> Library:
    """Return the library of a file, or of a folder of labelled images; the last folder's is kept for the next call.

    Raises:
        BadInput: the file is no library, the folder has no class folders, or they do not fit the model's labels.
    """
    path = Path(source)
    if not path.is_dir():
        return Library.load(path)
    _, files = class_folder(path)
    stats = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file, _ in files]
    key = [classifier.fingerprint, layer, references, stats]
    if (known := _BUILT.get(classifier)) is not None and known[0] == key:
        return known[1]
    library = Library.build(classifier, labelled_batches(classifier, path), references, layer=layer)
    _BUILT[classifier] = key, library
    return library


def labelled_batches(classifier: Classifier, root: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of pixels and the model's class indices from a folder with one sub-folder per class."""
    names, files = class_folder(root)
    indices = class_indices(names, classifier, root)
    for start in range(0, len(files), _BATCH):
        part = files[start : start + _BATCH]
        pixels, labels = [], []
        for (_, image), (_, folder) in zip(classifier.read_each([path for path, _ in part]), part, strict=True):
            if isinstance(image, XaikitError):
                warnings.warn(f"left out of the library: {image}", LeftOut, stacklevel=2)
            else:
                pixels.append(image)
                labels.append(indices[folder])
        if pixels:
            yield torch.stack(pixels).to(classifier.device), torch.tensor(labels, device="cpu")


def class_indices(names: Sequence[str], classifier: Classifier, root: Path) -> list[int]:
    """Return the model's class index for each folder name.

    Raises:
        BadInput: the names are not labels of the model, and their number differs from the number of classes.
    """
    labels = classifier.labels
    if labels:
        by_label = {label.casefold(): index for index, label in enumerate(labels)}
        if all(name.casefold() in by_label for name in names):
            return [by_label[name.casefold()] for name in names]
    if len(names) != classifier.classes:
        example = next((name for name in names if not labels or name not in labels), names[0])
        raise BadInput(
            f"{root}: expected folders named after the model's labels, or {classifier.classes} of them in its order, "
            f"got {len(names)} such as {example!r}; rename them"
        )
    return list(range(len(names)))
