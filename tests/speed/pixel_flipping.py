"""The deletion curve of given maps, against Quantus' PixelFlipping at equal work: the same order, steps and fill.

Quantus is no dependency, because it brings the GUI OpenCV; these contests run where it can be imported. A second
virtual environment that sees the first one's packages does not touch them:

    python -m venv ../quantus
    pwd | sed 's|$|/.venv/lib/python3.11/site-packages|' > ../quantus/lib/python3.11/site-packages/xaikit.pth
    ../quantus/bin/python -m pip install quantus
    ../quantus/bin/python -m tests.speed pixel_flipping
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import torch

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject
from xaikit.images.synthetic import draw
from xaikit.measures.removal.protocol import KeepProtocol
from xaikit.measures.removal.shared_curves import Removals
from xaikit.run.context import Context

__all__ = ["contests"]

METHODS = ["grad-cam", "layer-cam", "saliency"]


def contests() -> Iterator[Contest]:
    """Yield a large network, whose forwards are most of the work, and a small one; the steps are ones Quantus takes."""
    if find_spec("quantus") is None:
        print("pixel_flipping: left out, quantus is not installed; the file's first lines say how to run it")
        return
    one = subject("squeezenet1_0", "features.12", 4)
    yield _deletion("squeezenet1_0", one.classifier, one.pixels, steps=42, rounds=2)
    small = xaikit.load("texture-cnn")
    yield _deletion("texture-cnn", small, draw(8, 0).pixels.to(small.device), steps=48, rounds=3)


def _deletion(name: str, classifier: xaikit.Classifier, pixels: torch.Tensor, steps: int, rounds: int) -> Contest:
    import quantus

    found = xaikit.attribute_many(classifier, pixels, methods=METHODS)
    maps = {method: made.heatmap() for method, made in found.items()}
    target = found["grad-cam"].target
    inputs = classifier.normalize(pixels)
    network = classifier.network
    height, width = pixels.shape[-2:]
    metric = quantus.PixelFlipping(
        features_in_step=height * width * pixels.shape[1] // steps,
        perturb_baseline=0.0,
        normalise=False,
        disable_warnings=True,
    )
    plain = inputs.cpu().contiguous().numpy()
    theirs = {method: one[:, None].cpu().numpy() for method, one in maps.items()}
    labels = target.cpu().numpy()

    def ours() -> object:
        removals = Removals(classifier, pixels, maps, target, Context())
        curves = removals.curves(KeepProtocol(steps, "binary", order="highest"))
        return [curve.auc() for curve in curves.values()]

    def by_quantus() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [
                metric(
                    network.eval(), plain, labels, a_batch=one, channel_first=True, softmax=True, batch_size=len(plain)
                )
                for one in theirs.values()
            ]

    def forwards() -> object:
        with torch.no_grad():
            return [network(inputs) for _ in range(steps * len(maps))]

    return Contest(
        f"deletion {name}",
        f"{len(pixels)} images at {height}x{width}, {len(maps)} maps of each, {steps} steps, float32",
        {"xaikit": ours, "quantus": by_quantus, "bare forwards": forwards},
        [Claim("xaikit", "quantus", at_least=10.0), Claim("xaikit", "bare forwards", at_most=1.2)],
        rounds=rounds,
    )
