"""Reference libraries of a benchmark: opened, or built once and kept beside the rows.

DIR/libraries/<what it depends on>.safetensors
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from xaikit.api import build_library
from xaikit.benchmark.dataset import Reader, Sample, open_data
from xaikit.benchmark.suite_entries import Data, References
from xaikit.foundation.identity import fingerprint
from xaikit.methods.activation.library import Library
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

_PORTION = 32


def open_library(asked: References, classifier: Classifier, folder: Path, context: Context) -> Library:
    """Return the library that a suite asks for; one that has to be built is kept in a folder.

    Raises:
        BadInput: no such file or folder, or no image that the model recognises.
    """
    if asked.data is None:
        assert asked.file is not None
        return Library.load(asked.file)
    about = {"model": classifier.fingerprint, "layer": classifier.layer, "references": asked.identity}
    file = folder / f"{fingerprint(about)}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        build_library(classifier, _labelled(asked.data, classifier), asked.references, context=context).save(file)
    return Library.load(file)


def _labelled(data: Data, classifier: Classifier) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels and labels of the pictures that have a label and can be read."""
    pictures = [one for one in open_data(data).labelled(classifier, data) if one.label is not None]
    read = Reader.of(data, classifier)
    for start in range(0, len(pictures), _PORTION):
        part = pictures[start : start + _PORTION]
        pairs = zip(part, read(part), strict=True)
        good = [(one.label, sample.pixels) for one, sample in pairs if isinstance(sample, Sample)]
        if good:
            yield torch.stack([pixels for _, pixels in good]), torch.tensor([label for label, _ in good])
