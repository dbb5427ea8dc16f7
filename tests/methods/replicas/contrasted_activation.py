"""Activation methods whose score is not one logit, derived a second time."""

from __future__ import annotations

import torch

from tests.methods.replicas import close, ordinary, replicates
from tests.networks import DeepNet, GAPNet, bound, images
from xaikit.methods.base import METHODS


@replicates("finer-cam")
def _difference_of_grad_cams_of_single_classes() -> None:
    """Grad-CAM before its ReLU is linear in the score, so each class is differentiated alone."""
    clf, x, index = bound(DeepNet(classes=6), seed=2), images(3), [0, 3, 5]
    layer = clf.network.get_submodule(clf.layer)
    before = [
        torch.einsum("nk,nkhw->nhw", gradients.mean((2, 3)), activations)
        for activations, gradients in (ordinary(clf, x, torch.full((3,), c), layer) for c in range(6))
    ]
    logits = clf(x).detach()
    for classes, strength in ((3, 0.6), (1, 1.0), (9, 0.25)):
        expected = []
        for n, c in enumerate(index):
            others = sorted(set(range(6)) - {c}, key=lambda d: abs(float(logits[n, d] - logits[n, c])))[:classes]
            expected.append(before[c][n] - strength * sum(before[d][n] for d in others) / len(others))
        found = METHODS.get("finer-cam").build(clf, classes=classes, strength=strength).attribute(x, index)
        close(found, torch.stack(expected).clamp_min(0))


@replicates("finer-cam")
def _weights_of_the_linear_head_subtracted() -> None:
    clf, x = bound(GAPNet()), images()
    weights = clf.network.fc.weight.detach()
    activations, _ = ordinary(clf, x, torch.zeros(3, dtype=torch.int64), clf.network.get_submodule(clf.layer))
    channel = weights[0] - weights[[1, 2, 3]].mean(0)
    expected = torch.einsum("k,nkhw->nhw", channel, activations) / activations[0, 0].numel()
    close(METHODS.get("finer-cam").build(clf, strength=1.0).attribute(x, 0), expected.clamp_min(0))
