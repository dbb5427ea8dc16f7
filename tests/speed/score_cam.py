"""Score-CAM on SqueezeNet: time against the bare forwards it needs, and peak memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pytorch_grad_cam import ScoreCAM
from torchcam.methods import ScoreCAM as TorchcamScoreCAM

import xaikit
from tests.speed.contest import Claim, Contest, peak_bytes
from tests.speed.subjects import subject

__all__ = ["contests"]

CHANNELS = 512


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    yield _score()


def _score() -> Contest:
    one = subject("squeezenet1_0", "features.12", count=1)
    hers, theirs = one.peer(), one.peer()
    peer = ScoreCAM(model=hers, target_layers=[hers.features[12]])
    peer.batch_size = 16
    torchcam = TorchcamScoreCAM(theirs, target_layer="features.12", batch_size=32)

    def ours() -> object:
        return xaikit.attribute(one.classifier, one.pixels, method="score-cam")

    def by_peer() -> object:
        return peer(input_tensor=one.inputs, targets=None)

    def by_torchcam() -> object:
        with torch.no_grad():
            scores = theirs(one.inputs)
        return torchcam(int(scores.argmax()), scores)

    needed = int(xaikit.attribute(one.classifier, one.pixels, method="score-cam").diagnostics["channels"][0])

    peaks = {
        name: peak_bytes(work)
        for name, work in (("xaikit", ours), ("pytorch-grad-cam", by_peer), ("torchcam", by_torchcam))
    }
    return Contest(
        "score-cam squeezenet1_0",
        f"one image at 224x224, float32, features.12, {needed} of {CHANNELS} channels not constant",
        {
            "xaikit": ours,
            "bare forwards": lambda: one.bare_forwards(needed + 1),
            "pytorch-grad-cam": by_peer,
            "torchcam": by_torchcam,
        },
        [
            Claim("xaikit", "bare forwards", at_most=1.10),
            Claim("xaikit", "pytorch-grad-cam", at_least=1.15),
            Claim("xaikit", "torchcam", at_least=1.4),
        ],
        rounds=5,
        facts={f"peak MB {name}": round(peak / 1e6) for name, peak in peaks.items()}
        | {"peak of torchcam's (wanted <= 0.25)": round(peaks["xaikit"] / peaks["torchcam"], 3)},
    )
