"""The example images of the report: the network's input, and the map of every method.

    image names -> pixels, as the run read them -> cached or recomputed attributions -> maps ready to draw

A map is recomputed for the image alone, not in the batch of its row, so it may differ from the measured map in the
last bits, which are not visible.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaikit.benchmark.cache import recall
from xaikit.benchmark.dataset import Picture, Sample
from xaikit.benchmark.environment import steady
from xaikit.benchmark.identity import map_name
from xaikit.benchmark.plan import Setting
from xaikit.benchmark.worker import Model, Worker
from xaikit.images.hashes import image_hashes
from xaikit.images.reading import to_picture
from xaikit.run.context import Context

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Explained:
    """One image and its maps.

    Args:
        dataset: name of the dataset.
        model: name of the model.
        image: name of the image.
        picture: (H, W, 3) uint8, the input of the network.
        evidence: (H, W) bool, or None if unknown.
        maps: for each method: name, heatmap, pixel values or None, and whether the map is signed.
    """

    dataset: str
    model: str
    image: str
    picture: Array
    evidence: Array | None
    maps: tuple[tuple[str, Array, Array | None, bool], ...]


def explained(worker: Worker, index: int, targets: Mapping[str, Mapping[str, int]]) -> Iterator[Explained]:
    """Yield images with their maps for one model of a suite.

    Args:
        worker: worker of the suite.
        index: index of the model in the suite.
        targets: target class by image name and method name.
    """
    model = worker.model(index)
    settings = {setting.method: setting for setting in reversed(model.settings)}
    pictures = [picture for picture in model.pictures if picture.name in targets]
    for picture, content in zip(pictures, model.read(pictures), strict=True):
        if isinstance(content, Sample):
            with steady(worker.threads):
                maps = [
                    _map(worker, model, settings[method], picture, content, target)
                    for method, target in targets[picture.name].items()
                    if method in settings
                ]
            mask = None if content.mask is None else content.mask.cpu().numpy()
            image = to_picture(content.pixels)
            yield Explained(
                worker.suite.data.title, worker.suite.models[index].title, picture.name, image, mask, tuple(maps)
            )


def _map(
    worker: Worker, model: Model, setting: Setting, picture: Picture, sample: Sample, target: int
) -> tuple[str, Array, Array | None, bool]:
    pixels = model.classifier.check(sample.pixels[None])
    masks = None if sample.mask is None else {image_hashes(pixels)[0]: sample.mask}
    method = worker.bound(setting, masks)
    run = recall(worker.store, map_name(setting.map_id, picture.id))
    attribution = run.attribution if run else method.attribute(pixels, target, context=Context(seed=setting.seed))
    return setting.method, *attribution.drawable(signed=method.signed)[1:]
