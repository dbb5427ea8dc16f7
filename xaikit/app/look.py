"""What a network makes of a picture: pixels, answer, the time of a forward, and its layers as small grids.

    picture -> pixels -> logits -> the five likeliest classes
                      -> each layer's mean over channels of |A|, as a thumbnail

Shapes: pixels (1, C, H, W); a grid (h, w).
"""

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xaikit.app.facts import offered_methods
from xaikit.app.models import BoundMethods
from xaikit.app.pictures import Picture, content_of, without_folders
from xaikit.app.stopping import StoppableContext
from xaikit.foundation.errors import BadInput, XaikitError
from xaikit.images.reading import Pictures
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier
from xaikit.run.cost import Cost

_CLASSES = 5
_LAYERS = 12
_BLOCKS, _DEEPEST = 4, 6  # whole blocks are shown where there are enough


@dataclass(frozen=True, eq=False)
class Look:
    """What a network makes of a picture.

    Args:
        classifier: the network.
        fingerprint: its weights and preprocessing, as they were.
        content: hash of the picture's file.
        pictures: the pixels, and the whole picture beside them.
        answers: (K,) probability of each class; of a regression its values.
        seconds: time of one forward.
        grids: mean magnitude of some layers' activations, by name.
        layer: the target layer; None if the network has none.
        costs: passes of each method, and of one that cannot be used the reason.
        methods: the methods that are bound to the network.
    """

    classifier: Classifier
    fingerprint: str
    content: str
    pictures: Pictures
    answers: Tensor
    seconds: float
    grids: dict[str, np.ndarray[Any, Any]]
    layer: str | None
    costs: dict[str, Cost | str]
    methods: BoundMethods

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the pixels."""
        return self.pictures.pixels.shape[-2], self.pictures.pixels.shape[-1]

    @property
    def classes(self) -> list[tuple[int, str, float]]:
        """Index, label and probability of the likeliest classes."""
        top = self.answers.topk(min(_CLASSES, len(self.answers)))
        return [(index, self.label(index), value) for value, index in zip(*map(Tensor.tolist, top), strict=True)]

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all classes."""
        return self.classifier.labels or [f"class {index}" for index in range(len(self.answers))]

    def label(self, index: int) -> str:
        """Return the label of a class."""
        return self.labels[index]


def look(classifier: Classifier, methods: BoundMethods, picture: Picture, context: StoppableContext) -> Look:
    """Run a network on a picture and return what it makes of it.

    Args:
        classifier: the network.
        methods: the methods that are bound to it, which grow.
        picture: the picture.
        context: settings of the run.

    Raises:
        XaikitError: the picture cannot be read, or the network cannot take it.
    """
    content = content_of(picture)
    pictures = classifier.pictures([picture.path])
    with classifier.borrowed(), classifier.looking_at(pictures.pixels.shape[-2:]), torch.no_grad():
        inputs = classifier.normalize(pictures.pixels)
        names, layer = _layers(classifier)
        with classifier.probe() as probe:
            taps = {name: probe.record(classifier.resolve_layer(name)) for name in names}
            context.run(classifier, inputs)
        begin = time.perf_counter()
        logits = context.forward(classifier, inputs)
        seconds = time.perf_counter() - begin
        costs = {name: _cost(name, classifier, (inputs.shape[-2], inputs.shape[-1])) for name in offered_methods()}
        grids = {name: tap.activation[0].float().abs().mean(0).cpu().numpy() for name, tap in taps.items()}
    if not logits.isfinite().all():
        raise BadInput("model: expected finite logits, got NaN or infinity; check its weights")
    answers = classifier.to_probabilities(logits)[0].cpu()
    return Look(classifier, classifier.fingerprint, content, pictures, answers, seconds, grids, layer, costs, methods)


def _cost(method: str, classifier: Classifier, size: tuple[int, int]) -> Cost | str:
    try:
        return METHODS.get(method).build(classifier).cost(size)
    except XaikitError as error:
        return without_folders(str(error))


def _layers(classifier: Classifier) -> tuple[list[str], str | None]:
    """Return some layers with a grid in the order of the forward, the target layer among them, and that one."""
    try:
        shapes, target = classifier.layers(), classifier.layer
    except BadInput:  # no layers, such as those of a plain function
        return [], None
    grids = [name for name, (_, height, width) in shapes.items() if name and height * width > 1 and name != target]
    names = next((blocks for depth in range(1, _DEEPEST) if len(blocks := _up_to(depth, grids)) >= _BLOCKS), grids)
    spread = np.linspace(0, len(names) - 1, min(len(names), _LAYERS - 1)).round().astype(int)
    chosen = {names[place] for place in spread} | {target}
    ordered = [name for name in shapes if name in chosen]
    return ordered, target


def _up_to(depth: int, names: list[str]) -> list[str]:
    """Return the layers that lie in at most `depth` modules: whole blocks, rather than what is in them."""
    return [name for name in names if name.count(".") < depth]
