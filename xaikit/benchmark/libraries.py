"""Reference libraries of a benchmark: loaded from a file, or built once and saved next to the rows.

DIR/libraries/<hash of model, layer and identity>.safetensors

The identity of a library is the content of its file, or that of the labelled images to choose from. It holds no path.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from xaikit.api import build_library
from xaikit.benchmark.dataset import Picture, Reader, Sample, open_data
from xaikit.benchmark.identity import environment
from xaikit.benchmark.store import Store
from xaikit.benchmark.suite_entries import Data, References
from xaikit.foundation.errors import BadInput
from xaikit.foundation.identity import fingerprint
from xaikit.foundation.tensor_files import content_id
from xaikit.images.folders import sha256
from xaikit.methods.activation.reference_library import Library
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

_PORTION = 32


def library_id(references: References, classifier: Classifier) -> str:
    """Return the identity of a library, from the content of its file or of the images to choose from.

    Raises:
        BadInput: the file or folder does not exist.
    """
    if references.file is not None:
        return fingerprint({"file": content_id(references.file) or sha256(references.file)})
    assert references.data is not None
    pictures = [picture.id for picture in _labelled_pictures(references.data, classifier)]
    about = {"references": references.references, "resize": references.data.resize, "pictures": pictures}
    return fingerprint(about)


def open_library(
    references: References, identity: str, classifier: Classifier, store: Store, context: Context
) -> Library:
    """Return the library that a suite names; build and save it if the store does not have it undamaged.

    Args:
        references: the library file, or the images to choose from.
        identity: identity of the library.
        classifier: the model.
        store: store of the libraries that were built.
        context: settings of the run.

    Raises:
        BadInput: the file or folder does not exist or has changed, or the model recognises none of the images.
    """
    if references.file is not None:
        library = Library.load(references.file)
        _check_unchanged(references, classifier, identity)
        return library
    assert references.data is not None
    about = {
        "model": classifier.fingerprint,
        "layer": classifier.layer,
        "references": identity,
        "environment": environment(classifier.device),
    }
    file = store.path / "libraries" / f"{fingerprint(about)}.safetensors"
    if file.is_file():
        try:
            return Library.load(file)
        except BadInput as error:
            store.set_aside(file, "the library is built again", error)
    file.parent.mkdir(parents=True, exist_ok=True)
    images = _labelled_images(references.data, classifier)
    library = build_library(classifier, images, references.references, context=context)
    _check_unchanged(references, classifier, identity)
    library.save(file)
    return Library.load(file)


def _check_unchanged(references: References, classifier: Classifier, identity: str) -> None:
    if library_id(references, classifier) != identity:
        raise BadInput("library: expected the planned references, got some that changed meanwhile; run again")


def _labelled_pictures(data: Data, classifier: Classifier) -> list[Picture]:
    return [picture for picture in open_data(data).labelled(classifier, data) if picture.label is not None]


def _labelled_images(data: Data, classifier: Classifier) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels and labels of the pictures that have a label and can be read."""
    pictures = _labelled_pictures(data, classifier)
    read = Reader.of(data, classifier)
    for start in range(0, len(pictures), _PORTION):
        portion = pictures[start : start + _PORTION]
        pairs = zip(portion, read(portion), strict=True)
        readable = [(picture.label, sample.pixels) for picture, sample in pairs if isinstance(sample, Sample)]
        if readable:
            yield torch.stack([pixels for _, pixels in readable]), torch.tensor([label for label, _ in readable])
