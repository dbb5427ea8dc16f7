"""Score-CAM against the bare forwards that it needs and other packages, and its peak memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests", "score_cam"]


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    squeezenet = subject("squeezenet1_0", 1)
    contest = score_cam(squeezenet)
    contest.facts = {f"peak MB {name}": squeezenet.peak_megabytes(work) for name, work in contest.contenders.items()}
    yield contest


def score_cam(subject: Subject) -> Contest:
    """Return the contest; Score-CAM needs a forward for each image and channel that is not constant."""
    channels = int(subject.attribute("score-cam").diagnostics["channels"].sum())
    return subject.contest(
        "score-cam",
        f"{channels} channels that are not constant",
        lambda: subject.attribute("score-cam"),
        lambda: subject.forwards(channels + len(subject.pixels)),
        {"pytorch-grad-cam": _pytorch_grad_cam, "torchcam": _torchcam},
    )


def _pytorch_grad_cam(subject: Subject) -> Work:
    from pytorch_grad_cam import ScoreCAM

    network = subject.copy()
    method = ScoreCAM(model=network, target_layers=[subject.module(network)])
    method.batch_size = min(16, subject.portion)
    return lambda: method(input_tensor=subject.inputs, targets=None)


def _torchcam(subject: Subject) -> Work:
    from torchcam.methods import ScoreCAM

    network = subject.copy()
    method = ScoreCAM(network, target_layer=subject.layer, batch_size=32)

    def explain() -> object:
        with torch.no_grad():
            scores = network(subject.inputs)
        return method(scores.argmax(1).tolist(), scores)

    return explain
