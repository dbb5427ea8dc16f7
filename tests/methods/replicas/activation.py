"""Activation methods, derived a second time."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.methods.replicas import close, ordinary, replicates
from tests.networks import ConvolutionalHead, DeepNet, FlatNet, GAPNet, bound, images
from xaikit.methods.activation.libra_cam import contrast
from xaikit.methods.activation.reference_library import Library
from xaikit.methods.base import METHODS
from xaikit.model.target import Contrast


@replicates("cam")
def _cam_is_the_linear_head() -> None:
    clf = bound(GAPNet())
    x = images()
    found = METHODS.get("cam")(clf).attribute(x, target=[0, 2, 3])
    net = clf.network
    activations = F.relu(net.conv2(F.relu(net.conv1(x))))
    close(
        found,
        torch.stack([torch.einsum("khw,k->hw", activations[i], net.fc.weight[c]) for i, c in enumerate([0, 2, 3])]),
    )
    bias = net.fc.bias[torch.tensor([0, 2, 3])]
    close(found.values.mean((1, 2)) + bias, found.scores)


@replicates("cam")
def _cam_of_a_convolutional_head_is_its_class_map() -> None:
    clf = bound(ConvolutionalHead(), seed=3)
    x = images()
    target = clf(x).argmax(1)
    found = METHODS.get("cam")(clf).attribute(x)
    maps = F.relu(clf.network.classifier[0](clf.network.features(x)))
    close(found, maps[torch.arange(3), target])
    close(found.values.mean((1, 2)), found.scores)


@replicates("cam")
def _cam_of_a_contrast_is_the_difference() -> None:
    clf = bound(GAPNet())
    x = images()
    cam = METHODS.get("cam")(clf)
    difference = cam.attribute(x, 1).values - cam.attribute(x, 2).values
    close(cam.attribute(x, Contrast(1, 2)), difference)


@replicates("grad-cam")
def _grad_cam_by_ordinary_autograd() -> None:
    for network in (GAPNet(), FlatNet(), DeepNet()):
        clf = bound(network)
        x = images(4)
        index = torch.tensor([0, 1, 2, 3])
        layer = network.relu if isinstance(network, GAPNet) else network.features
        activations, gradients = ordinary(clf, x, index, layer)
        expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp_min(0)
        close(METHODS.get("grad-cam")(clf).attribute(x, index), expected)


@replicates("grad-cam")
def _grad_cam_is_cam_on_its_architecture() -> None:
    clf = bound(GAPNet())
    x = images()
    cam = METHODS.get("cam")(clf).attribute(x)
    close(METHODS.get("grad-cam")(clf).attribute(x), (cam.values / cam.values[0].numel()).clamp_min(0))


@replicates("hires-cam")
def _hires_cam_sums_to_the_score_of_a_linear_tail() -> None:
    for network in (GAPNet(), FlatNet()):
        clf = bound(network)
        x = images()
        found = METHODS.get("hires-cam")(clf).attribute(x)
        close(found.values.sum((1, 2)) + network.fc.bias[found.target], found.scores)


@replicates("hires-cam")
def _hires_cam_by_ordinary_autograd() -> None:
    clf = bound(DeepNet())
    x = images()
    index = torch.tensor([3, 0, 1])
    activations, gradients = ordinary(clf, x, index, clf.network.features)
    close(METHODS.get("hires-cam")(clf).attribute(x, index), (activations * gradients).sum(1))


@replicates("libra-cam")
def _raw_contrast_with_a_zero_reference_is_hires_cam() -> None:
    clf = bound(DeepNet())
    x = images()
    hires = METHODS.get("hires-cam")(clf).attribute(x, 2)
    activations, gradients = ordinary(clf, x, torch.full((3,), 2), clf.network.features)
    close(contrast(activations, gradients, torch.zeros_like(activations[:1]))[:, 0], hires.values)


@replicates("libra-cam")
def _raw_contrast_sums_to_the_difference_of_logits() -> None:
    for network in (GAPNet(), FlatNet()):
        clf = bound(network)
        x, other = images(3), images(5, seed=9)
        index = torch.tensor([1, 2, 0])
        layer = network.relu if isinstance(network, GAPNet) else network.features
        activations, gradients = ordinary(clf, x, index, layer)
        references, _ = ordinary(clf, other, index.repeat(2)[:5], layer)
        raw = contrast(activations, gradients, references)
        difference = clf(x).gather(1, index[:, None]) - clf(other)[:, index].T
        close(raw.sum((2, 3)), difference.detach(), 1e-9)


@replicates("libra-cam")
def _whole_method_by_a_loop_over_images() -> None:
    """The published procedure, image by image and reference by reference, order and calibration official."""
    clf = bound(DeepNet(), seed=5)
    x = images(4, seed=6)
    data = images(24, seed=7)
    library = Library.build(clf, [(data, clf(data).argmax(1))], references=6)
    for calibrate in (None, "official", "fixed"):
        options = {"library": library, "references": 6, "calibrate": calibrate, "order": "official"}
        found = METHODS.get("libra-cam").build(clf, **options).attribute(x)
        for i in range(len(x)):
            expected = _libra_by_hand(clf, x[i], int(found.target[i]), library, calibrate)
            assert torch.allclose(found.values[i], expected, atol=1e-12)
        assert float(found.values.max()) > 0


def _libra_by_hand(clf, image, label, library, calibrate):
    def probability(pixels):
        return float(clf.probabilities(pixels[None])[0, label].detach())

    activations, gradients = ordinary(clf, image[None], torch.tensor([label]), clf.network.features)
    clean, maps, gains = probability(image), [], []
    for reference in library.references(label):
        raw = (gradients[0] * (activations[0] - reference)).sum(0)
        small = (raw - raw.min()) / (raw.max() - raw.min())
        large = F.interpolate(small[None, None], size=(8, 8), mode="bilinear", align_corners=False)[0, 0]
        maps.append(large)
        gains.append(probability(image * large) - clean)
    gains = torch.tensor(gains, dtype=torch.float64)
    better = gains > 0
    pool = gains[better] if better.any() else gains
    mean, deviation = pool.mean(), pool.std(unbiased=False)
    kept = better & (gains >= mean - deviation) if better.any() else gains > mean + deviation
    kept = kept if kept.any() else torch.ones_like(better)
    result = torch.stack([m for m, k in zip(maps, kept, strict=True) if k]).mean(0)
    if calibrate is None:
        return result
    order = result.flatten().argsort(stable=True)

    def dropped(level):
        flat = result.flatten().clone()
        flat[order[: 64 * level // 10]] = 0
        return flat.reshape(8, 8)

    increases = [max(probability(image * dropped(level)) - clean, 0.0) for level in range(10)]
    best = increases.index(max(increases))
    return dropped(best if calibrate == "fixed" else best + 1)
