"""Perturbation methods, derived a second time."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.methods.nets import DeepNet, LinearNet, bound, images
from tests.methods.replicas import close, replicates
from xaikit.core.method import METHODS


@replicates("occlusion")
def _occlusion_of_a_linear_model() -> None:
    clf = bound(LinearNet())
    x = images()
    shares = (x * clf.network.fc.weight.reshape(4, 3, 8, 8)[1]).sum(1)
    found = METHODS.get("occlusion").build(clf, window=2, stride=2).attribute(x, 1)
    blocks = F.avg_pool2d(shares[:, None], 2)[:, 0] * 4
    close(found, blocks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    whole = METHODS.get("occlusion").build(clf, window=8).attribute(x, 1)
    close(whole, shares.sum((1, 2), keepdim=True).expand(3, 8, 8))


@replicates("occlusion")
def _occlusion_by_a_loop_over_windows() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images(2)
    total, cover = torch.zeros(2, 8, 8, dtype=torch.float64), torch.zeros(8, 8, dtype=torch.float64)
    clean = clf.probabilities(x)[:, 0]
    starts = [0, 2, 4, 5]
    for top in starts:
        for left in starts:
            covered = x.clone()
            covered[:, :, top : top + 3, left : left + 3] = 0
            drop = clean - clf.probabilities(covered)[:, 0]
            total[:, top : top + 3, left : left + 3] += drop.detach()[:, None, None]
            cover[top : top + 3, left : left + 3] += 1
    options = {"window": 3, "stride": 2, "fill": "black", "score": "probability"}
    close(METHODS.get("occlusion").build(clf, **options).attribute(x, 0), total / cover)
