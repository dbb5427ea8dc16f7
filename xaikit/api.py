"""The public functions.

classifier = load("resnet50")
attribution = attribute(classifier, classifier.read("cat.jpg"), method="libra-cam")
curve = keep_curve(classifier, pixels, attribution)
values = measure(classifier, pixels, attribution, ["insertion", "apd"])
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from xaikit.foundation.errors import BadInput, UnknownName
from xaikit.images.reading import Inputs
from xaikit.measures.base import MEASURES, Measure
from xaikit.measures.measure import measure as measure
from xaikit.measures.removal.keep_curve import keep_curve as keep_curve
from xaikit.methods.activation.labelled_folder import labelled_batches
from xaikit.methods.activation.reference_library import Library
from xaikit.methods.base import METHODS, Family, LayerMethod, Method, attribute_all
from xaikit.model.classifier import Classifier
from xaikit.run.attribution import Attribution
from xaikit.run.context import Context, Progress
from xaikit.run.progress import reported
from xaikit.zoo.load import load as load


def attribute(
    classifier: Classifier,
    inputs: Inputs,
    target: Any = None,
    method: str = "grad-cam",
    *,
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    context: Context | None = None,
    progress: Progress | bool | None = None,
    **params: Any,
) -> Attribution:
    """Return the attribution of a batch by one method.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        target: None (top class), index, label, sequence, tensor, `Contrast` or callable `logits -> (N,)`.
        method: registry name, in any spelling: "grad-cam", "GradCAM", "ig".
        layer: target layer of methods that read one, a dotted name or a module; a list of them for layer-cam, which
            fuses several; None is the classifier's target layer.
        seed: seed of random draws, combined with each image's content.
        chunk_size: largest number of images in one pass; None chooses it by the free memory.
        context: settings of the run, in place of `seed`, `chunk_size` and `progress`.
        progress: True shows a line of progress on standard error, False none; None shows it in a terminal once the work
            has taken two seconds; or a function called as `progress(done, total, unit)` after every portion.
        **params: the method's parameters.

    Raises:
        UnknownName: no method has that name.
        BadInput: an argument is invalid; the message says what was expected.
    """
    bound = METHODS.get(method).build(classifier, layer, **params)
    return bound.attribute(inputs, target, seed=seed, chunk_size=chunk_size, context=context, progress=progress)


def attribute_many(
    classifier: Classifier,
    inputs: Inputs,
    target: Any = None,
    methods: Sequence[str] | str = ("grad-cam",),
    *,
    layer: str | nn.Module | Sequence[str | nn.Module] | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    context: Context | None = None,
    progress: Progress | bool | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Attribution]:
    """Return the attributions of a batch by several methods, which share forwards and backwards.

    Args:
        classifier: the model.
        inputs: pixels (N, C, H, W) in [0, 1], or pictures, as `Classifier.read` takes them.
        target: as in `attribute`, the same for all methods.
        methods: registry names, in any spelling.
        layer: target layer of the methods that read one, as in `attribute`.
        seed: as in `attribute`.
        chunk_size: as in `attribute`.
        context: as in `attribute`.
        progress: as in `attribute`.
        params: parameters by method name.

    Returns:
        The attributions by method name as given, in the given order.

    Raises:
        UnknownName: no method has one of the names.
        BadInput: an argument is invalid; the message says what was expected.
    """
    params = params or {}
    if not isinstance(params, Mapping) or not all(isinstance(entry, Mapping) for entry in params.values()):
        raise BadInput(
            f"params: expected parameters by method name, such as {{'rise': {{'samples': 99}}}}, got {params!r}"
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
    with reported(progress) as report:
        context = context or Context(seed, chunk_size, progress=report)
        attributions = attribute_all(bound, inputs, target, context)
    return dict(zip(dict.fromkeys(methods), attributions, strict=True))


def methods(family: Family | None = None, backends: bool = False) -> list[str]:
    """Return the names of all methods.

    Args:
        family: only methods of this family; None is all families.
        backends: whether to add methods of other installed packages, such as "captum/saliency".

    Raises:
        UnknownName: no family has that name.
    """
    if family is not None and family not in get_args(Family):
        raise UnknownName("family", str(family), get_args(Family), f"the families are {', '.join(get_args(Family))}")
    return METHODS.names(lambda kind: family is None or kind.family == family, guests=backends)


def measures() -> list[str]:
    """Return the names of all measures."""
    return MEASURES.names()


def get_method(name: str) -> type[Method]:
    """Return the class of a method, for use as `get_method("grad-cam")(classifier).attribute(inputs)`."""
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
    """Return a reference library for Libra-CAM, built from labelled images.

    Args:
        classifier: the model the library is for.
        data: a folder with one sub-folder per class, or an iterable of (pixels (B, C, H, W), labels (B,)). Folder names
            must be the model's labels, or match them in count and order; labels are the model's class indices.
        references: K, the number of references per class.
        layer: name of the target layer; None is the classifier's target layer.
        dtype: dtype of the stored activations; float16 halves the file.
        context: settings of the run.

    Raises:
        BadInput: the folder names do not match the model's labels, or labels are out of range.

    Warns:
        LeftOut: a file cannot be read.
    """
    batches = labelled_batches(classifier, Path(data)) if isinstance(data, str | Path) else data
    return Library.build(classifier, batches, references, layer=layer, dtype=dtype, context=context)
