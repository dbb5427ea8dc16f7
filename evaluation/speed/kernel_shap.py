"""Kernel SHAP on 49 squares with equal samples, against captum with its defaults and shap."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from evaluation.speed.contest import Contest, Work
from evaluation.speed.subjects import Subject, subject

__all__ = ["contests"]

SIDE = 7
SAMPLES = 300
SHAP_BATCH = 50  # shap hands over all samples at once, so the user's function has to split them


def contests() -> Iterator[Contest]:
    """Yield the contest; Kernel SHAP needs a forward for each sample, the image and the empty one."""
    squeezenet = subject("squeezenet1_0", 1)
    numbers = _squares(squeezenet)
    yield squeezenet.contest(
        "kernel-shap",
        f"{SIDE * SIDE} squares, {SAMPLES} samples",
        lambda: squeezenet.attribute("kernel-shap", squeezenet.target, segmentation=numbers, samples=SAMPLES),
        lambda: squeezenet.forwards(SAMPLES + 2),
        {"captum": _captum, "shap": _shap},
    )


def _squares(subject: Subject) -> torch.Tensor:
    """Return the number of each pixel's square, (H, W)."""
    height, width = subject.pixels.shape[2:]
    rows, columns = torch.arange(height) * SIDE // height, torch.arange(width) * SIDE // width
    return (rows[:, None] * SIDE + columns).to(subject.pixels.device)


def _captum(subject: Subject) -> Work:
    from captum.attr import KernelShap

    method, numbers = KernelShap(subject.copy()), _squares(subject)

    def explain() -> object:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return method.attribute(
                subject.inputs, target=subject.target, feature_mask=numbers[None, None], n_samples=SAMPLES
            )

    return explain


def _shap(subject: Subject) -> Work:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap

    network, numbers, target = subject.copy(), _squares(subject), int(subject.target)

    def score(kept: Any) -> Any:
        masks = torch.from_numpy(kept).to(subject.inputs)[:, None, numbers]
        with torch.no_grad():
            scores = [network(subject.inputs * part)[:, target] for part in masks.split(SHAP_BATCH)]
        return torch.cat(scores).cpu().numpy()

    def explain() -> object:
        explainer = shap.KernelExplainer(score, np.zeros((1, SIDE * SIDE)))
        return explainer.shap_values(np.ones(SIDE * SIDE), nsamples=SAMPLES, l1_reg=0, silent=True)

    return explain
