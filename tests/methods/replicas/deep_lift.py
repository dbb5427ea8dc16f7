"""DeepLIFT, its mean over references and expected gradients, derived a second time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.methods.replicas import close, replicates
from tests.networks import DeepNet, HiddenNet, LinearNet, bound, images
from xaikit.foundation.identity import generator
from xaikit.images.hashes import image_hashes
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

NORMALISED = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def _matrix(layer: nn.Module, size: int) -> Tensor:
    """Return the dense matrix (outputs, size) of an affine layer of images (3, 8, 8), or of vectors."""
    places = torch.eye(size, dtype=torch.float64)
    shaped = places.reshape(size, 3, 8, 8) if isinstance(layer, nn.Conv2d) else places
    with torch.no_grad():
        return (layer(shaped) - layer(torch.zeros_like(shaped))).flatten(1).T


def _ratio(y: Tensor, other_y: Tensor, x: Tensor, other_x: Tensor) -> Tensor:
    return (y - other_y) / (x - other_x)


@replicates("deep-lift")
def _deep_lift_by_dense_matrices() -> None:
    """M = W1^T D1 W2^T D2 w with D the ratios of differences at the ReLUs."""
    clf = bound(DeepNet(), **NORMALISED)
    pixels, baseline = images(2), images(1, seed=9)
    network = clf.network
    convolution, (first, _, last) = network.features[0], network.head
    outer, middle = _matrix(convolution, 192), first.weight
    found = METHODS.get("deep-lift").build(clf, baseline=baseline, channels=True).attribute(pixels, 3)
    for place, image in enumerate(clf.normalize(pixels)):
        pair = torch.stack([image, clf.normalize(baseline)[0]])
        before = convolution(pair).flatten(1)
        inside = first(before.relu())
        multipliers = last.weight[3] * _ratio(*inside.relu(), *inside)
        multipliers = (multipliers @ middle) * _ratio(*before.relu(), *before)
        close(found.values[place], (pair[0] - pair[1]) * (multipliers @ outer).reshape(3, 8, 8))


@replicates("deep-lift")
def _deep_lift_of_a_linear_model() -> None:
    clf = bound(LinearNet(), **NORMALISED)
    pixels, baseline = images(), images(1, seed=9)
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    found = METHODS.get("deep-lift").build(clf, baseline=baseline, channels=True).attribute(pixels, 2)
    close(found, (clf.normalize(pixels) - clf.normalize(baseline)) * weights[2])


@replicates("deep-lift")
def _deep_lift_of_one_hidden_layer_is_integrated_gradients() -> None:
    clf, pixels, baseline = bound(HiddenNet()), images(2), images(1, seed=9)
    found = METHODS.get("deep-lift").build(clf, baseline=baseline).attribute(pixels, 0)
    path = METHODS.get("integrated-gradients").build(clf, baseline=baseline, steps=1000)
    close(found, path.attribute(pixels, 0).values, 2e-3)


class _Gated(nn.Module):
    """A gate on its own input, then a maximum over pairs of pixels: all rules but division."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.out = nn.Linear(192, 192), nn.Linear(96, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        gated = x * self.gate(x).sigmoid()
        return self.out(torch.max_pool1d(gated[:, None], 2)[:, 0])


@replicates("deep-lift")
def _deep_lift_of_gates_and_maxima_by_hand() -> None:
    clf, pixels, baseline = bound(_Gated()), images(1), images(1, seed=9)
    network = clf.network
    x, other_x = pixels.flatten(), baseline.flatten()
    inside, other_inside = network.gate(x), network.gate(other_x)
    gate, other_gate = inside.sigmoid(), other_inside.sigmoid()
    y, other_y = x * gate, other_x * other_gate
    at_pool = torch.zeros(192, dtype=torch.float64)
    for window in range(96):
        places = slice(2 * window, 2 * window + 2)
        own, other = y[places], other_y[places]
        winner = 2 * window + int(own.argmax() if own.max() >= other.max() else other.argmax())
        at_pool[winner] = network.out.weight[1, window] * (own.max() - other.max()) / (y - other_y)[winner]
    to_gate = at_pool * (x + other_x) / 2 * _ratio(gate, other_gate, inside, other_inside)
    multipliers = at_pool * (gate + other_gate) / 2 + to_gate @ network.gate.weight
    found = METHODS.get("deep-lift").build(clf, baseline=baseline, channels=True).attribute(pixels, 1)
    close(found, ((x - other_x) * multipliers).reshape(1, 3, 8, 8))


@replicates("deep-lift-shap")
def _deep_lift_shap_is_the_mean_of_single_baselines() -> None:
    clf, pixels, references = bound(DeepNet(), **NORMALISED), images(3), images(5, seed=9)
    found = METHODS.get("deep-lift-shap").build(clf, references=references).attribute(pixels, [0, 1, 2], chunk_size=4)
    singles = [
        METHODS.get("deep-lift").build(clf, baseline=one).attribute(pixels, [0, 1, 2]).values for one in references
    ]
    close(found, torch.stack(singles).mean(0))


@replicates("deep-lift-shap")
def _deep_lift_shap_of_a_linear_model() -> None:
    clf, pixels, references = bound(LinearNet(), **NORMALISED), images(), images(5, seed=9)
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    found = METHODS.get("deep-lift-shap").build(clf, references=references, channels=True).attribute(pixels, 2)
    close(found, (clf.normalize(pixels) - clf.normalize(references).mean(0)) * weights[2])


@replicates("expected-gradients")
def _expected_gradients_of_a_linear_model() -> None:
    clf, pixels, references = bound(LinearNet(), **NORMALISED), images(), images(4, seed=9)
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    method = METHODS.get("expected-gradients").build(clf, references=references, samples=12, channels=True)
    found = method.attribute(pixels, 2)
    close(found, (clf.normalize(pixels) - clf.normalize(references).mean(0)) * weights[2])
    assert found.completeness is not None
    assert float(found.completeness.abs().max()) < 1e-12


@replicates("expected-gradients")
def _expected_gradients_of_one_reference_are_integrated_gradients() -> None:
    clf, pixels, reference = bound(DeepNet(), **NORMALISED), images(2), images(1, seed=9)
    method = METHODS.get("expected-gradients").build(clf, references=reference, samples=10, points="midpoint")
    path = METHODS.get("integrated-gradients").build(clf, baseline=reference, steps=10)
    close(method.attribute(pixels, 1), path.attribute(pixels, 1).values)


@replicates("expected-gradients")
def _expected_gradients_one_sample_after_another() -> None:
    clf, pixels, references = bound(DeepNet(), **NORMALISED), images(2), images(3, seed=9)
    method = METHODS.get("expected-gradients").build(
        clf, references=references, samples=8, deviation=0.1, channels=True
    )
    found = method.attribute(pixels, 1, seed=5)
    for place, content in enumerate(image_hashes(pixels)):
        close(found.values[place], _sampled(clf, pixels[place], clf.normalize(references), content))


def _sampled(clf: Classifier, pixels: Tensor, references: Tensor, content: str) -> Tensor:
    stream = generator(5, content, "samples")
    order = torch.cat([torch.randperm(3, generator=stream) for _ in range(3)])
    inside = torch.rand(8, generator=stream, dtype=torch.float64)
    total = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    for k in range(8):
        noise = torch.randn(3, 8, 8, generator=generator(5, content, "noise", str(k))).double()
        end, start = clf.normalize(pixels[None]) + 0.1 * noise, references[order[k]]
        point = (start + (k + inside[k]) / 8 * (end - start)).requires_grad_(True)
        total += (end - start) * torch.autograd.grad(clf.logits(point)[:, 1].sum(), point)[0] / 8
    return total[0]
