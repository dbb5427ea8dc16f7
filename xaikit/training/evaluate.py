"""Evaluation of any classifier on a folder of labelled images.

DIR/<class>/*.jpg, or the test split of DIR, else its validation split -> probabilities -> metrics (metrics.py)
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xaikit.foundation.errors import BadInput, LeftOut, XaikitError, XaikitWarning
from xaikit.foundation.files import output_directory, write_json
from xaikit.images.folders import class_folder, split_folders
from xaikit.methods.activation.labelled_folder import class_indices
from xaikit.model.classifier import Classifier, check_classifier
from xaikit.run.context import Progress
from xaikit.training.card import write_evaluation_card
from xaikit.training.metrics import classification_metrics


def evaluate(
    classifier: Classifier,
    data: str | Path,
    output: str | Path | None = None,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the metrics of a classifier on labelled images.

    Pictures are read as the classifier reads them. Where the classifier has more classes than the folder, a prediction
    of another class is an error, counted in the last column of the confusion matrix.

    Args:
        classifier: the model.
        data: folder with one subfolder per class, named after the model's labels, or with splits.
        output: folder for metrics.json, card.md and confusion.png; None writes nothing.
        batch_size: images in one pass, where the classifier has a fixed input size.
        progress: called after every pass.

    Raises:
        BadInput: the folders do not fit the model's labels, no image can be read, or the model is a regression.

    Warns:
        LeftOut: an image cannot be read.
        XaikitWarning: the model has no labels, so that the sorted folders are taken in the order of its classes.
    """
    check_classifier(classifier)
    if classifier.output == "regression":
        raise BadInput("evaluate: expected a classifier, got a regression; its outputs are no classes")
    folder = _folder(Path(data))
    names, files = class_folder(folder)
    columns = _columns(classifier, names, folder)
    if output is not None:
        output = output_directory(output)
    labels, parts = [], []
    size = batch_size if classifier.size is not None else 1
    for start in range(0, len(files), size):
        batch = files[start : start + size]
        pixels = []
        for (_, image), (_, label) in zip(classifier.read_each([path for path, _ in batch]), batch, strict=True):
            if isinstance(image, XaikitError):
                warnings.warn(f"left out of the evaluation: {image}", LeftOut, stacklevel=2)
            else:
                pixels.append(image)
                labels.append(label)
        if pixels:
            parts.append(_probabilities(classifier, torch.stack(pixels).to(classifier.device)))
        if progress is not None:
            progress(start + len(batch), len(files), "images")
    if not parts:
        raise BadInput(f"{folder}: expected images, got none that can be read")
    probabilities = torch.cat(parts)
    chosen = {column: index for index, column in enumerate(columns)}
    predictions = [chosen.get(column, len(names)) for column in probabilities.argmax(1).tolist()]
    metrics = {
        **classification_metrics(torch.tensor(labels), torch.tensor(predictions), probabilities[:, columns], names),
        "images": len(labels),
        "data": folder.as_posix(),
        "model": classifier.name,
        "weights": classifier.weights,
    }
    if output is not None:
        write_json(output / "metrics.json", metrics)
        write_evaluation_card(output, f"{classifier.name} on {folder.name}", metrics)
    return metrics


def _folder(data: Path) -> Path:
    """Return the folder of classes: the test split, else the validation split, else the folder itself."""
    splits = split_folders(data)
    if not splits:
        return data
    if split := splits.get("test", splits.get("val")):
        return split
    raise BadInput(f"{data}: expected a test or validation split, got {splits['train'].name} alone; give that folder")


def _columns(classifier: Classifier, names: list[str], folder: Path) -> list[int]:
    """Return the class of the model for each folder."""
    labels = classifier.labels
    if not labels:
        columns = class_indices(names, classifier, folder)
        warnings.warn(
            f"{classifier.name}: has no labels; its classes are taken to be the sorted folders of {folder}",
            XaikitWarning,
            stacklevel=3,
        )
        return columns
    known = {label.casefold() for label in labels}
    if unknown := [name for name in names if name.casefold() not in known]:
        raise BadInput(
            f"{folder}: expected folders named after the model's labels, such as {labels[0]!r}, got {unknown[0]!r}; "
            "rename it, or give the labels of the model"
        )
    return class_indices(names, classifier, folder)


def _probabilities(classifier: Classifier, pixels: Tensor) -> Tensor:
    """Return probabilities (N, K) on the CPU; of one binary output both."""
    with torch.inference_mode(), classifier.borrowed():
        probabilities = classifier.probabilities(pixels).double().cpu()
    return torch.cat([1 - probabilities, probabilities], 1) if probabilities.shape[1] == 1 else probabilities
