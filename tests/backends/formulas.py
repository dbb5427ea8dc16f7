"""What other packages do to a map before they return it, written out.

Each formula takes values and the case they come from, and returns what the other side must be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xaikit.core.batch import Batch
from xaikit.core.classifier import Classifier
from xaikit.core.context import Context
from xaikit.core.probe import Layer

__all__ = [
    "Case",
    "Formula",
    "as_it_is",
    "class_map",
    "cropped_at_the_border",
    "overwritten_in_place",
    "post_processed",
    "rectified",
]


@dataclass(frozen=True)
class Case:
    """A classifier with pictures and the layer that is read."""

    classifier: Classifier
    pixels: Tensor
    layer: str


Formula = Callable[[Tensor, Case], Tensor]


def as_it_is(values: Tensor, case: Case) -> Tensor:
    """Nothing is done."""
    return values


def rectified(values: Tensor, case: Case) -> Tensor:
    """The positive part."""
    return values.relu()


def post_processed(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam: rectify, scale at the layer's size, enlarge, scale again; 1e-7 in both denominators."""
    size = tuple(case.pixels.shape[-2:])
    enlarged = F.interpolate(_scaled(values.relu())[:, None], size=size, mode="bilinear", align_corners=False)
    return _scaled(enlarged[:, 0])


def class_map(values: Tensor, case: Case) -> Tensor:
    """SqueezeNet's own class map: the convolution's bias and ReLU, which torchcam's CAM leaves out."""
    head = case.classifier.module.get_submodule("classifier.1")
    classes = case.classifier(case.pixels).argmax(1)
    return (values + head.bias.detach()[classes, None, None]).relu()  # type: ignore[union-attr, index, operator]


def overwritten_in_place(values: Tensor, case: Case) -> Tensor:
    """pytorch-grad-cam at a layer that a functional in-place ReLU follows.

    Its copy of the activations is overwritten by the ReLU, its gradient is taken before: relu(sum mean(G before) * A
    after), post-processed as always.
    """
    with case.classifier.borrowed():
        batch = Batch(case.classifier, case.pixels, None, Context())
        after, _ = batch.activations_and_gradients(case.classifier.resolve_layer(case.layer))
        _, before = batch.activations_and_gradients(Layer(case.layer))
    return post_processed((before.mean((2, 3), keepdim=True) * after).sum(1), case)


def cropped_at_the_border(window: int, stride: int) -> Formula:
    """captum: of windows that do not tile the image the last is cropped, where ours is pushed back to the border."""

    def formula(values: Tensor, case: Case) -> Tensor:
        inputs = case.classifier.normalize(case.pixels)
        side = inputs.shape[-1]
        starts = range(0, side - window + stride, stride)
        drops, covers = torch.zeros(len(inputs), side, side), torch.zeros(side, side)
        with case.classifier.borrowed(), torch.no_grad():
            clean = case.classifier.logits(inputs)
            score, index = clean.max(1)
            for place in ((slice(y, y + window), slice(x, x + window)) for y in starts for x in starts):
                covered = inputs.clone()
                covered[:, :, *place] = 0
                drop = score - case.classifier.logits(covered).gather(1, index[:, None])[:, 0]
                drops[:, *place] += drop[:, None, None]
                covers[place] += 1
        return drops / covers

    return formula


def _scaled(maps: Tensor) -> Tensor:
    shifted = maps - maps.amin((1, 2), keepdim=True)
    return shifted / (1e-7 + shifted.amax((1, 2), keepdim=True))
