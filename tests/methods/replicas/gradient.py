"""Gradient methods, derived a second time."""

from __future__ import annotations

import torch

from tests.methods.nets import DeepNet, LinearNet, bound, images
from tests.methods.replicas import close, replicates
from xaikit.core.method import METHODS


@replicates("saliency")
def _saliency_by_finite_differences() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images(1)
    found = METHODS.get("saliency").build(clf, channels=True).attribute(x, 1)
    step = 1e-6
    expected = torch.zeros_like(x)
    inputs = clf.normalize(x)
    for place in range(x.numel()):
        moved = torch.zeros_like(inputs).flatten()
        moved[place] = step
        up, down = (clf.logits(inputs + sign * moved.reshape(x.shape))[0, 1] for sign in (1, -1))
        expected.flatten()[place] = (up - down).detach() / (2 * step)
    close(found, expected, 1e-6)
    close(METHODS.get("saliency")(clf).attribute(x, 1), expected.abs().amax(1), 1e-6)


@replicates("saliency")
def _saliency_of_a_linear_model_is_its_weights() -> None:
    clf = bound(LinearNet())
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    found = METHODS.get("saliency")(clf).attribute(images(2), [0, 3])
    close(found, weights[[0, 3]].abs().amax(1))


@replicates("integrated-gradients")
def _integrated_gradients_of_a_linear_model() -> None:
    clf = bound(LinearNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images()
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    for steps in (1, 3, 50):
        found = METHODS.get("integrated-gradients").build(clf, steps=steps).attribute(x, 2)
        close(found, (clf.normalize(x) * weights[2]).sum(1))
        assert found.completeness is not None
        assert float(found.completeness.abs().max()) < 1e-12


@replicates("integrated-gradients")
def _integrated_gradients_by_a_fine_sum() -> None:
    clf = bound(DeepNet(), mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3])
    x = images(2)
    inputs, steps = clf.normalize(x), 8
    black = clf.normalize(torch.zeros_like(x))
    total = torch.zeros_like(inputs)
    for m in range(steps):
        point = (black + (m + 0.5) / steps * (inputs - black)).requires_grad_(True)
        total += torch.autograd.grad(clf.logits(point)[:, 3].sum(), point)[0]
    found = METHODS.get("integrated-gradients").build(clf, steps=steps, baseline="black", channels=True).attribute(x, 3)
    close(found, (inputs - black) * total / steps)
