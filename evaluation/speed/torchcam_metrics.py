"""Average drop and increase in confidence of four methods, against torchcam's ClassificationMetric.

Both explain the images and compare the confidence in the image times its map with that in the image. torchcam runs each
method by itself; xaikit explains with all of them together and measures all maps in shared passes. With one threshold
M methods take 2 M forwards there and M + 2 here, so at most twice the speed can be had. torchcam knows no thresholds:
for eleven of them it runs once for each, with the lowest values of its maps cut off.
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
from evaluation.speed.contest import OURS, Contest, Work
from evaluation.speed.subjects import Subject, subject
from xaikit.measures.removal.keep_curve import keep_curves

__all__ = ["contests"]

METHODS = {"grad-cam": GradCAM, "grad-cam-plus-plus": GradCAMpp, "xgrad-cam": XGradCAM, "layer-cam": LayerCAM}


def contests() -> Iterator[Contest]:
    """Yield contests with one threshold, for four methods and for one, and one with eleven thresholds."""
    yield _contest(subject("resnet50"), list(METHODS), levels=1)
    yield _contest(subject("resnet50"), ["grad-cam"], levels=1)
    yield _contest(subject("squeezenet1_0"), list(METHODS), levels=1)
    yield _contest(subject("squeezenet1_0"), list(METHODS), levels=10)


class Cut:
    """A torchcam extractor whose maps lose a share of their lowest values."""

    def __init__(self, extractor: Any, share: float) -> None:
        self.extractor, self.share = extractor, share
        self.model, self.fuse_cams, self._hooks_off = extractor.model, extractor.fuse_cams, extractor._hooks_off

    def __call__(self, *arguments: Any, **keywords: Any) -> list[Tensor]:
        return [self._cut(cam) for cam in self.extractor(*arguments, **keywords)]

    def _cut(self, cam: Tensor) -> Tensor:
        flat = cam.flatten(1)
        lowest = flat.argsort(1)[:, : int(flat.shape[1] * self.share)]
        return flat.scatter(1, lowest, 0.0).reshape(cam.shape)


def _contest(subject: Subject, methods: list[str], levels: int) -> Contest:
    def ours() -> object:
        made = xaikit.attribute_many(subject.classifier, subject.pixels, methods=methods, context=subject.context)
        maps = {name: attribution.heatmap() for name, attribution in made.items()}
        target = made[methods[0]].target
        curves = keep_curves(
            subject.classifier, subject.pixels, maps, target, levels=levels, context=subject.context
        ).values()
        return [(curve.apd(), curve.ir()) for curve in curves]

    about = f"batch {len(subject.pixels)} at 224x224, float32: {', '.join(methods)}"
    name = f"average drop and increase at {levels} levels, {len(methods)} methods, {subject.name}"
    return Contest(name, about, {OURS: ours, "torchcam": _torchcam(subject, methods, levels)})


def _torchcam(subject: Subject, methods: list[str], levels: int) -> Work:
    extractors = [METHODS[name](subject.copy(), subject.layer) for name in methods]
    shares = [0.0] if levels == 1 else [level / levels for level in range(levels + 1)]
    metrics = [
        ClassificationMetric(Cut(extractor, share), partial(torch.softmax, dim=-1))
        for extractor in extractors
        for share in shares
    ]

    def measure() -> object:
        for metric in metrics:
            metric.reset()
            metric.update(subject.inputs)
        return [metric.summary() for metric in metrics]

    return measure
