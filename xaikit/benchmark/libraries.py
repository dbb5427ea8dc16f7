"""Reference libraries of a benchmark: loaded from a file, or built once and saved next to the rows.

DIR/libraries/<hash of model, layer and references>.safetensors
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from xaikit.api import build_library
from xaikit.benchmark.dataset import Reader, Sample, open_data
from xaikit.benchmark.suite_entries import Data, References
from xaikit.foundation.identity import fingerprint
from xaikit.methods.activation.reference_library import Library
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

_PORTION = 32


def open_library(references: References, classifier: Classifier, folder: Path, context: Context) -> Library:
    """Return the library that a suite names; build it and save it in `folder` if it does not exist yet.

    Raises:
        BadInput: the file or folder does not exist, or the model recognises none of the images.
    """
    if references.data is None:
        assert references.file is not None
        return Library.load(references.file)
    about = {"model": classifier.fingerprint, "layer": classifier.layer, "references": references.identity}
    file = folder / f"{fingerprint(about)}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        images = _labelled_images(references.data, classifier)
        build_library(classifier, images, references.references, context=context).save(file)
    return Library.load(file)


def _labelled_images(data: Data, classifier: Classifier) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels and labels of the pictures that have a label and can be read."""
    pictures = [picture for picture in open_data(data).labelled(classifier, data) if picture.label is not None]
    read = Reader.of(data, classifier)
    for start in range(0, len(pictures), _PORTION):
        portion = pictures[start : start + _PORTION]
        pairs = zip(portion, read(portion), strict=True)
        readable = [(picture.label, sample.pixels) for picture, sample in pairs if isinstance(sample, Sample)]
        if readable:
            yield torch.stack([pixels for _, pixels in readable]), torch.tensor([label for label, _ in readable])
