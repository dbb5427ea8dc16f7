"""Kernel SHAP on SqueezeNet: 49 squares, equal samples, against captum with its defaults, shap and bare forwards."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from captum.attr import KernelShap

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import subject
from xaikit.backends.choices import squares

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import shap

__all__ = ["contests"]

SAMPLES = 300
SHAPS_BATCH = 50  # what a user's function takes at once; shap hands over all samples


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    one = subject("squeezenet1_0", "features.12", count=1)
    hers, theirs = one.peer(), one.peer()
    numbers = squares((224, 224), 7).to(one.pixels.device)
    target = int(one.classifier(one.pixels).argmax())
    captum = KernelShap(hers)

    def ours(samples: int = SAMPLES) -> object:
        return xaikit.attribute(
            one.classifier, one.pixels, target, method="kernel-shap", segmentation=numbers[0, 0], samples=samples
        )

    def by_captum() -> object:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return captum.attribute(one.inputs, target=target, feature_mask=numbers, n_samples=SAMPLES)

    def scores(kept: Any) -> Any:
        parts = torch.split(torch.from_numpy(kept).to(one.inputs), SHAPS_BATCH)
        with torch.no_grad():
            found = [theirs(one.inputs * part[:, None, numbers[0, 0]])[:, target] for part in parts]
        return torch.cat(found).cpu().numpy()

    def by_shap() -> object:
        explainer = shap.KernelExplainer(scores, np.zeros((1, 49)))
        return explainer.shap_values(np.ones(49), nsamples=SAMPLES, l1_reg=0, silent=True)

    yield Contest(
        "kernel-shap squeezenet1_0",
        f"one image at 224x224, float32, 49 squares, {SAMPLES} samples",
        {"xaikit": ours, "captum": by_captum, "shap": by_shap, "bare forwards": lambda: one.bare_forwards(SAMPLES)},
        [
            Claim("xaikit", "captum", at_least=2.0),
            Claim("xaikit", "shap", at_least=2.0),
            Claim("xaikit", "bare forwards", at_most=1.15),
        ],
        rounds=3,
        facts={"peak of a bare chunk's (wanted <= 1.5)": one.of_a_bare_portion(lambda: ours(200))},
    )
