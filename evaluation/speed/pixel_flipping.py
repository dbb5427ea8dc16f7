"""The deletion curve of the same maps, against Quantus' PixelFlipping with the same order, steps and fill.

Quantus brings an OpenCV with a window system, so it is no dependency; these contests run where it is installed. An
environment beside the first, which sees the first one's packages, keeps the two apart:

    python -m venv ../quantus
    pwd | sed 's|$|/.venv/lib/python3.11/site-packages|' > ../quantus/lib/python3.11/site-packages/xaikit.pth
    ../quantus/bin/python -m pip install quantus
    ../quantus/bin/python -m evaluation.speed pixel_flipping
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import xaikit
from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject
from xaikit.images.synthetic import draw
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import Removals

__all__ = ["contests"]

METHODS = ["grad-cam", "layer-cam", "saliency"]


def contests() -> Iterator[Contest]:
    """Yield a network whose forwards are most of the work and a small one, with steps that Quantus can take."""
    if find_spec("quantus") is None:
        print("pixel_flipping: left out, quantus is not installed; the head of the file says how to run it")
        return
    yield _deletion(subject("squeezenet1_0", 4), steps=42)
    small = xaikit.load("texture-cnn")
    yield _deletion(Subject("texture-cnn", small.network, small, draw(8, 0).pixels.to(small.device)), steps=48)


def _deletion(subject: Subject, steps: int) -> Contest:
    made = xaikit.attribute_many(subject.classifier, subject.pixels, subject.target, METHODS)
    maps = {method: attribution.heatmap() for method, attribution in made.items()}

    def ours() -> object:
        removals = Removals(subject.classifier, subject.pixels, maps, subject.target, subject.context)
        curves = removals.curves(KeepProtocol(steps, "binary", order="highest"))
        return [curve.auc() for curve in curves.values()]

    def quantus(subject: Subject) -> Work:
        from quantus import PixelFlipping

        count, channels, height, width = subject.pixels.shape
        metric = PixelFlipping(
            features_in_step=height * width * channels // steps,
            perturb_baseline=0.0,
            normalise=False,
            disable_warnings=True,
        )
        network, labels = subject.copy(), subject.target.cpu().numpy()
        inputs = subject.inputs.cpu().contiguous().numpy()

        def measure() -> object:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return [
                    metric(
                        *(network, inputs, labels, heatmap[:, None].cpu().numpy()),
                        channel_first=True,
                        softmax=True,
                        batch_size=count,
                    )
                    for heatmap in maps.values()
                ]

        return measure

    total = steps * len(maps) * len(subject.pixels)
    about = f"{len(maps)} maps of each image, {steps} steps"
    return subject.contest("deletion", about, ours, lambda: subject.forwards(total), {"quantus": quantus})
