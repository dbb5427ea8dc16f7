"""Average drop and increase in confidence of several methods, against torchcam's ClassificationMetric.

Both answer the same question: for each method, explain the images and compare the confidence in the image times its
map with that in the image. torchcam's metric runs each method by itself; ours explains all methods together, measures
all maps in shared portions, and has API, DR and the confidence in nothing with it. At one threshold M methods are 2 M
forwards there and M + 2 here, so that no more than twice the speed can be had. At eleven thresholds torchcam, which
knows none, is asked once for each, with the lowest values of its maps cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchcam.methods import GradCAM, GradCAMpp, LayerCAM, XGradCAM
from torchcam.metrics import ClassificationMetric

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import Subject, subject
from xaikit.measures.removal.keep_curve import keep_curves

__all__ = ["contests"]

LEVELS = 10
PAIRS = {"grad-cam": GradCAM, "grad-cam-plus-plus": GradCAMpp, "xgrad-cam": XGradCAM, "layer-cam": LayerCAM}


def contests() -> Iterator[Contest]:
    """Yield one contest a network at one threshold, and one at eleven."""
    yield _one_threshold("resnet50", "layer4")
    yield _one_threshold("squeezenet1_0", "features.12")
    yield _eleven_thresholds("squeezenet1_0", "features.12")


def _one_threshold(name: str, layer: str) -> Contest:
    one = subject(name, layer)
    theirs = [ClassificationMetric(kind(one.peer(), layer), partial(torch.softmax, dim=-1)) for kind in PAIRS.values()]

    def ours(methods: list[str]) -> object:
        return _ours(one, methods, levels=1)

    four, single = list(PAIRS), list(PAIRS)[:1]
    return Contest(
        f"average drop and increase {name}",
        f"batch 8 at 224x224, float32, layer {layer}: {', '.join(four)}; and grad-cam alone",
        {
            "xaikit": lambda: ours(four),
            "torchcam": lambda: _theirs(theirs, one),
            "xaikit, one method": lambda: ours(single),
            "torchcam, one method": lambda: _theirs(theirs[:1], one),
        },
        [
            Claim("xaikit", "torchcam", at_least=3.0),
            Claim("xaikit, one method", "torchcam, one method", at_least=1.0),
        ],
        rounds=3,
    )


def _eleven_thresholds(name: str, layer: str) -> Contest:
    one = subject(name, layer)
    extractors = [kind(one.peer(), layer) for kind in PAIRS.values()]
    theirs = [
        ClassificationMetric(Cut(extractor, level), partial(torch.softmax, dim=-1))
        for extractor in extractors
        for level in range(LEVELS + 1)
    ]
    return Contest(
        f"average drop and increase at eleven thresholds {name}",
        f"batch 8 at 224x224, float32, layer {layer}, soft masks: {', '.join(PAIRS)}",
        {"xaikit": lambda: _ours(one, list(PAIRS), LEVELS), "torchcam": lambda: _theirs(theirs, one)},
        [Claim("xaikit", "torchcam", at_least=3.0)],
        rounds=2,
    )


class Cut:
    """A torchcam extractor whose maps lose their lowest values."""

    def __init__(self, extractor: Any, level: int) -> None:
        self.extractor, self.level = extractor, level
        self.model, self.fuse_cams, self._hooks_off = extractor.model, extractor.fuse_cams, extractor._hooks_off

    def __call__(self, *arguments: Any, **keywords: Any) -> list[Tensor]:
        return [self._cut(cam) for cam in self.extractor(*arguments, **keywords)]

    def _cut(self, cam: Tensor) -> Tensor:
        flat = cam.flatten(1)
        gone = flat.argsort(1)[:, : flat.shape[1] * self.level // LEVELS]
        return flat.scatter(1, gone, 0.0).reshape(cam.shape)


def _ours(one: Subject, methods: list[str], levels: int) -> object:
    found = xaikit.attribute_many(one.classifier, one.pixels, methods=methods, chunk_size=8)
    maps = {key: made.heatmap() for key, made in found.items()}
    curves = keep_curves(one.classifier, one.pixels, maps, found[methods[0]].target, levels=levels, chunk_size=8)
    return {key: (curve.apd(), curve.ir()) for key, curve in curves.items()}


def _theirs(metrics: list[ClassificationMetric], one: Subject) -> object:
    for metric in metrics:
        metric.reset()
        metric.update(one.inputs)
    return [metric.summary() for metric in metrics]
