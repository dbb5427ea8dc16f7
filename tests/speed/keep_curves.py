"""API, APD, IR and DR at eleven thresholds for ten methods: how much of the time is the model's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import xaikit
from tests.speed.figure import Facts, Figure
from tests.speed.subjects import Subject, subject
from xaikit.benchmark.score import Images, score
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import Removals
from xaikit.model.classifier import Classifier
from xaikit.run.context import Context

__all__ = ["contests"]

METHODS = (
    *("grad-cam", "grad-cam-plus-plus", "xgrad-cam", "hires-cam", "layer-cam", "eigen-cam"),
    *("random", "random-grid", "center", "edges"),
)
IMAGES = 8


def contests() -> Iterator[Figure]:
    """Yield the share of the forwards in measuring, and in a whole block of the benchmark."""
    one = subject("squeezenet1_0", "features.12", IMAGES)
    about = f"squeezenet1_0, {IMAGES} images at 224x224, 11 thresholds soft and binary, {len(METHODS)} methods"
    yield Figure("measuring", f"{about}: maps to API, APD, IR and DR", SHARE, lambda: measuring(one), at_least=0.85)
    yield Figure("a benchmark's block", f"{about}: images to rows", SHARE, lambda: block(one), at_least=0.85)


SHARE = "share of the wall time in the model's forwards"


@dataclass
class Clock:
    """Seconds spent in forwards."""

    seconds: float = 0.0


@dataclass
class Timed(Context):
    """A context that times the network; copies of it share the clock."""

    clock: Clock = field(default_factory=Clock)

    def run(self, classifier: Classifier, inputs: Tensor) -> Tensor:
        begin = now()
        logits = super().run(classifier, inputs)
        self.clock.seconds += now() - begin
        return logits


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measuring(one: Subject) -> tuple[float, Facts]:
    """Measure maps that are there already."""
    found = xaikit.attribute_many(one.classifier, one.pixels, methods=METHODS)
    maps = {name: made.heatmap() for name, made in found.items()}

    def work(context: Context) -> None:
        removals = Removals(one.classifier, one.pixels, maps, found["grad-cam"].target, context)
        for mask in ("soft", "binary"):
            for curve in removals.curves(KeepProtocol(10, mask)).values():
                _ = curve.api(), curve.apd(), curve.ir(), curve.dr()

    return timed(work)


def block(one: Subject) -> tuple[float, Facts]:
    """Explain and measure as the benchmark does; forwards that carry a graph are not counted as the model's."""
    methods = [xaikit.get_method(name)(one.classifier) for name in METHODS]
    images = Images("noise", [str(place) for place in range(IMAGES)], one.pixels)
    return timed(lambda context: score(methods, images, context=context, warm=set(METHODS)))


def timed(work: Any) -> tuple[float, Facts]:
    work(Timed())
    context = Timed()
    begin = now()
    work(context)
    wall = now() - begin
    facts = {"seconds": round(wall, 3), "in forwards": round(context.clock.seconds, 3)}
    return context.clock.seconds / wall, facts | {"masked images and others": context.counters.forwards}
