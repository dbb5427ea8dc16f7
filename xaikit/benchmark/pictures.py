"""What the report shows of a few images: what the network saw, and every method's map of it.

    names -> pixels, as the run read them -> kept attributions, or explained again -> maps as they are drawn

Explained again means that an image goes through alone, without the physical batch of the rows: a map may differ from
the one that was measured by the last bits, which nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaikit.benchmark.cache import Remembered
from xaikit.benchmark.dataset import Picture, Sample
from xaikit.benchmark.environment import steady
from xaikit.benchmark.plan import Setting
from xaikit.benchmark.worker import Model, Worker
from xaikit.foundation.identity import fingerprint
from xaikit.images.hashes import image_hashes
from xaikit.images.reading import to_picture
from xaikit.run.context import Context

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Explained:
    """One image and its maps.

    Args:
        dataset: its name.
        model: that explained it.
        image: its name.
        picture: (H, W, 3) uint8, what the network saw.
        evidence: (H, W) bool, or None where it is not known.
        maps: by method: name, heatmap, values of pixels or None, and whether they are signed.
    """

    dataset: str
    model: str
    image: str
    picture: Array
    evidence: Array | None
    maps: tuple[tuple[str, Array, Array | None, bool], ...]


def explained(worker: Worker, place: int, wanted: Mapping[str, Mapping[str, int]]) -> Iterator[Explained]:
    """Yield images of one model of a suite, explained by the methods that could.

    Args:
        worker: of the suite.
        place: of the model in it.
        wanted: by image and method: the explained class, as its row has it.
    """
    model = worker.model(place)
    asked = {one.method: one for one in reversed(model.settings)}
    chosen = [picture for picture in model.pictures if picture.name in wanted]
    for picture, content in zip(chosen, model.read(chosen), strict=True):
        if isinstance(content, Sample):
            targets = wanted[picture.name]
            with steady(worker.threads):
                maps = [
                    _map(worker, model, asked[method], picture, content, target)
                    for method, target in targets.items()
                    if method in asked
                ]
            mask = None if content.mask is None else content.mask.cpu().numpy()
            seen = to_picture(content.pixels)
            yield Explained(worker.suite.data.title, model.classifier.name, picture.name, seen, mask, tuple(maps))


def _map(
    worker: Worker, model: Model, asked: Setting, picture: Picture, sample: Sample, target: int
) -> tuple[str, Array, Array | None, bool]:
    pixels = model.classifier.check(sample.pixels[None])
    known = None if sample.mask is None else {image_hashes(pixels)[0]: sample.mask}
    method = worker.bound(asked, known)
    names = {asked.method: [fingerprint({"map": asked.map_id, "image": picture.key})]}
    kept = Remembered(worker.store, names).recall(asked.method)
    found = method.attribute(pixels, target, context=Context(seed=asked.seed)) if kept is None else kept.attribution
    return asked.method, *found.drawable(signed=method.signed)[1:]
