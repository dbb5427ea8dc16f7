"""The public functions, in the words of a script.

classifier = load("resnet50")
attribution = attribute(classifier, classifier.read("cat.jpg"), method="libra-cam")
curve = keep_curve(classifier, pixels, attribution.heatmap(), attribution.target)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, LeftOut, UnknownName, XaikitError
from xaikit.images.folders import class_folder
from xaikit.measures.base import MEASURES, Measure
from xaikit.measures.removal.keep_curve import keep_curve
from xaikit.methods.activation.library import Library
from xaikit.methods.base import METHODS, Family, LayerMethod, Method, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context
from xaikit.zoo.load import load

__all__ = [
    "attribute",
    "attribute_many",
    "build_library",
    "get_measure",
    "get_method",
    "keep_curve",
    "load",
    "measures",
    "methods",
]

_FOLDER_BATCH = 32


def attribute(
    classifier: Classifier,
    inputs: Tensor,
    target: Any = None,
    method: str = "grad-cam",
    *,
    layer: str | nn.Module | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    context: Context | None = None,
    **params: Any,
) -> Attribution:
    """Explain a batch by one method.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        target: None (top class), index, label, sequence, tensor, `Contrast` or callable `logits -> (N,)`.
        method: registry name.
        layer: for methods that read a layer: dotted name or module.
        seed: of random draws, together with each image's content.
        chunk_size: most images in one pass; None chooses by free memory.
        context: instead of seed and chunk_size, everything about the run.
        **params: the method's own parameters.

    Raises:
        UnknownName: no such method.
        BadInput: anything that does not fit; the message says what was expected.
    """
    bound = METHODS.get(method).build(classifier, layer, **params)
    return bound.attribute(inputs, target, seed=seed, chunk_size=chunk_size, context=context)


def attribute_many(
    classifier: Classifier,
    inputs: Tensor,
    target: Any = None,
    methods: Sequence[str] | str = ("grad-cam",),
    *,
    layer: str | nn.Module | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    context: Context | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Attribution]:
    """Explain a batch by several methods that share every forward and backward they can.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1].
        target: as in `attribute`, the same for all methods.
        methods: registry names.
        layer: for those methods that read a layer.
        seed: as in `attribute`.
        chunk_size: as in `attribute`.
        context: as in `attribute`.
        params: parameters by method name.

    Returns:
        One attribution by method name, in the given order.
    """
    params = params or {}
    if not isinstance(params, Mapping) or not all(isinstance(one, Mapping) for one in params.values()):
        raise BadInput(
            f"params: expected parameters by method name, got {params!r}; such as {{'rise': {{'samples': 99}}}}"
        )
    methods = [methods] if isinstance(methods, str) else methods
    unknown = [name for name in params if name not in methods]
    if unknown:
        raise BadInput(
            f"params: expected names among the methods, got {unknown[0]!r}; the methods are {', '.join(methods)}"
        )
    if not methods:
        raise BadInput("methods: expected at least one name, got none; xaikit.methods() lists them")
    bound = []
    for name in dict.fromkeys(methods):
        kind = METHODS.get(name)
        bound.append(kind.build(classifier, layer if issubclass(kind, LayerMethod) else None, **params.get(name, {})))
    context = context or Context(seed=seed, chunk_size=chunk_size)
    found = attribute_all(bound, inputs, target, context)
    return {method.name: attribution for method, attribution in zip(bound, found, strict=True)}


def methods(family: Family | None = None, backends: bool = False) -> list[str]:
    """Return the names of all methods.

    Args:
        family: of this family alone.
        backends: add those of other installed packages, such as "captum/saliency".

    Raises:
        UnknownName: no such family.
    """
    if family is not None and family not in get_args(Family):
        raise UnknownName("family", str(family), get_args(Family), f"the families are {', '.join(get_args(Family))}")
    return METHODS.names(lambda kind: family is None or kind.family == family, guests=backends)


def measures() -> list[str]:
    """Return the names of all measures."""
    return MEASURES.names()


def get_method(name: str) -> type[Method]:
    """Return the class of a method: `get_method("grad-cam")(classifier).attribute(inputs)`."""
    return METHODS.get(name)


def get_measure(name: str) -> type[Measure]:
    """Return the class of a measure."""
    return MEASURES.get(name)


def build_library(
    classifier: Classifier,
    data: str | Path | Iterable[tuple[Tensor, Tensor]],
    references: int = 30,
    *,
    layer: str | None = None,
    dtype: torch.dtype = torch.float32,
    context: Context | None = None,
) -> Library:
    """Build Libra-CAM's reference library from labelled images.

    Args:
        classifier: the model the library is for.
        data: a folder with one sub-folder a class, or an iterable of (pixels (B, C, H, W), labels (B,)). Class names
            must be the model's labels, or match them in count and order; labels are the model's class indices.
        references: K, references kept for each class.
        layer: target layer; None is the classifier's own.
        dtype: float16 halves the file.
        context: portions, precision, progress.

    Raises:
        BadInput: class names that do not fit the model's labels, or labels out of range.

    Warns:
        LeftOut: a warning for a file that cannot be read.
    """
    batches = _labelled_batches(classifier, Path(data)) if isinstance(data, str | Path) else data
    return Library.build(classifier, batches, references, layer=layer, dtype=dtype, context=context)


def _labelled_batches(classifier: Classifier, root: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pictures of a class folder with the model's class indices."""
    names, files = class_folder(root)
    index = class_indices(names, classifier, root)
    for start in range(0, len(files), _FOLDER_BATCH):
        part = files[start : start + _FOLDER_BATCH]
        pixels, labels = [], []
        for (_, image), (_, place) in zip(classifier.read_each([path for path, _ in part]), part, strict=True):
            if isinstance(image, XaikitError):
                warnings.warn(f"left out of the library: {image}", LeftOut, stacklevel=2)
            else:
                pixels.append(image)
                labels.append(index[place])
        if pixels:
            yield torch.stack(pixels).to(classifier.device), torch.tensor(labels, device="cpu")


def class_indices(names: Sequence[str], classifier: Classifier, root: Path) -> list[int]:
    """Return the model's class for each folder name."""
    labels = classifier.labels
    if labels:
        plain = {label.casefold(): place for place, label in enumerate(labels)}
        found = [plain.get(name.casefold()) for name in names]
        if all(place is not None for place in found):
            return [place for place in found if place is not None]
    if len(names) != classifier.classes:
        example = next((name for name in names if not labels or name not in labels), names[0])
        raise BadInput(
            f"{root}: expected folders named after the model's labels, or {classifier.classes} of them in its order, "
            f"got {len(names)} such as {example!r}; rename them"
        )
    return list(range(len(names)))
