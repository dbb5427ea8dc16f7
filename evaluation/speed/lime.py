"""LIME with 1,000 samples of one image, slic segments, against lime's own explainer with its quickshift segments."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any

import torch

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests"]

SAMPLES = 1000


def contests() -> Iterator[Contest]:
    """Yield the contest; LIME needs a forward for each sample and one for the image."""
    squeezenet = subject("squeezenet1_0", 1)
    yield squeezenet.contest(
        "lime",
        f"{SAMPLES} samples",
        lambda: squeezenet.attribute("lime", squeezenet.target, samples=SAMPLES),
        lambda: squeezenet.forwards(SAMPLES + 1),
        {"lime": _lime},
    )


def _lime(subject: Subject) -> Work:
    from lime.lime_image import LimeImageExplainer

    network, target = subject.copy(), int(subject.target)
    picture = subject.pixels[0].permute(1, 2, 0).double().cpu().numpy()

    def predict(pictures: Any) -> Any:
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(subject.pixels)
        with torch.no_grad():
            return network(subject.classifier.normalize(pixels)).softmax(1).cpu().numpy()

    def explain() -> object:
        explainer = LimeImageExplainer(random_state=0)
        with redirect_stderr(io.StringIO()):
            return explainer.explain_instance(picture, predict, labels=(target,), top_labels=None, num_samples=SAMPLES)

    return explain
