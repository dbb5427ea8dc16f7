"""LIME on SqueezeNet: 1,000 samples of one image against lime's own explainer and the bare forwards it needs.

In float32 on a CPU the forwards alone are the limit, which the last claim shows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any

import torch
from lime.lime_image import LimeImageExplainer

import xaikit
from tests.speed.contest import Claim, Contest
from tests.speed.subjects import MEAN, STD, subject
from xaikit.run.context import Context

__all__ = ["contests"]

SAMPLES = 1000


def contests() -> Iterator[Contest]:
    """Yield the contest."""
    one = subject("squeezenet1_0", "features.12", count=1)
    theirs = one.peer()
    picture = one.pixels[0].permute(1, 2, 0).double().cpu().numpy()
    target = int(one.classifier(one.pixels).argmax())
    mean, std = (torch.tensor(values).to(one.pixels)[:, None, None] for values in (MEAN, STD))

    def predict(pictures: Any) -> Any:
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(one.pixels)
        with torch.no_grad():
            return theirs((pixels - mean) / std).softmax(1).cpu().numpy()

    def ours(samples: int = SAMPLES, context: Context | None = None) -> object:
        return xaikit.attribute(one.classifier, one.pixels, target, method="lime", samples=samples, context=context)

    def by_lime() -> object:
        explainer = LimeImageExplainer(random_state=0)
        with redirect_stderr(io.StringIO()):
            return explainer.explain_instance(picture, predict, labels=(target,), top_labels=None, num_samples=SAMPLES)

    yield Contest(
        "lime squeezenet1_0",
        f"one image at 224x224, float32, {SAMPLES} samples, slic against their quickshift",
        {
            "xaikit": ours,
            "xaikit in bfloat16": lambda: ours(context=Context(precision="bfloat16")),
            "lime": by_lime,
            "bare forwards": lambda: one.bare_forwards(SAMPLES),
        },
        [
            Claim("xaikit", "lime", at_least=3.0),
            Claim("xaikit in bfloat16", "lime", at_least=3.0),
            Claim("xaikit", "bare forwards", at_most=1.15),
            Claim("bare forwards", "lime", at_least=3.0),
        ],
        rounds=3,
        warm=False,
        facts={"peak of a bare chunk's (wanted <= 1.5)": one.of_a_bare_portion(lambda: ours(200))},
    )
