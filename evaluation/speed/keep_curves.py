"""Keep curves at eleven thresholds, and a whole block of the benchmark, against the bare forwards that they need."""

from __future__ import annotations

from collections.abc import Iterator

import xaikit
from evaluation.speed.contest import Contest
from evaluation.speed.subjects import Subject, subject
from xaikit.benchmark.score import Images, score
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import Removals

__all__ = ["contests", "keep_curves"]

METHODS = (
    *("grad-cam", "grad-cam-plus-plus", "xgrad-cam", "hires-cam", "layer-cam", "eigen-cam"),
    *("random", "random-grid", "center", "edges"),
)


def contests() -> Iterator[Contest]:
    """Yield the contest of the curves alone and that of a block of the benchmark."""
    squeezenet = subject("squeezenet1_0")
    yield keep_curves(squeezenet)
    yield _block(squeezenet)


def keep_curves(subject: Subject) -> Contest:
    """Return the contest of API, APD, IR and DR, soft and binary, for the maps of ten methods."""
    made = xaikit.attribute_many(subject.classifier, subject.pixels, methods=METHODS, context=subject.context)
    maps = {name: attribution.heatmap() for name, attribution in made.items()}
    target = made[METHODS[0]].target

    def ours() -> object:
        removals = Removals(subject.classifier, subject.pixels, maps, target, subject.context)
        curves = [curve for mask in ("soft", "binary") for curve in removals.curves(KeepProtocol(10, mask)).values()]
        return [(curve.api(), curve.apd(), curve.ir(), curve.dr()) for curve in curves]

    total = subject.images_through(ours)
    about = f"11 thresholds soft and binary, {len(METHODS)} methods, {total} forwards"
    return subject.contest("keep curves", about, ours, lambda: subject.forwards(total))


def _block(subject: Subject) -> Contest:
    """Return the contest of explaining images and measuring the maps, as the benchmark does it."""
    methods = [xaikit.get_method(name)(subject.classifier) for name in METHODS]
    images = Images("noise", [str(image) for image in range(len(subject.pixels))], subject.pixels)

    def ours() -> object:
        return score(methods, images, context=subject.context, warm=set(METHODS))

    total = subject.images_through(ours)
    about = f"explanations and curves of {len(METHODS)} methods, {total} forwards"
    return subject.contest("a block of the benchmark", about, ours, lambda: subject.forwards(total))
