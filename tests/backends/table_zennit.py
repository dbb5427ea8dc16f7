"""The rows of relevance: our LRP against zennit's composites, where zennit sees every operation.

Each composite stands at each network and with each treatment of biases, and each network with each treatment.

Theirs stabilise by an absolute number, which is made small here; ours by a share of the mean |z|. Merging a BatchNorm,
theirs leave its eps in place, so that their merged resnet18 is another network by 1e-4: hence its tolerance.
"""

from __future__ import annotations

import torch

from tests.backends.cases import is_real
from tests.backends.pairs import Pair

__all__ = ["ZENNIT"]

COMPOSITES = (
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
    "epsilon-gamma-box",
)
BIASES = (("absorb", None), ("zero", ["bias"]))

ZENNIT = [
    Pair(
        "lrp",
        f"zennit/{composite}",
        (place,),
        params={"composite": composite, "bias": bias, "epsilon": 1e-9},
        their_params={"epsilon": 1e-9, "stabilizer": 1e-9, "zero_params": zeroed},
        images=2,
        dtype=torch.float64 if is_real(place) else torch.float32,
        tolerance=2e-4 if place == "resnet18" else 1e-4,
    )
    for row, composite in enumerate(COMPOSITES)
    for column, place in enumerate(("vgg11", "resnet18", "squeezenet1_0"))
    for bias, zeroed in [BIASES[(row + column) % 2]]
]
