"""Gradient methods, derived a second time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.methods.replicas import close, ordinary, replicates
from tests.networks import DeepNet, GAPNet, HiddenNet, LinearNet, bound, images
from xaikit.foundation.identity import generator
from xaikit.images.hashes import image_hashes
from xaikit.methods.base import METHODS
from xaikit.model.classifier import Classifier

COLOURS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def hidden(clf: Classifier, x: Tensor) -> Tensor:
    """Return [h > 0] of the hidden layer, (N, 7)."""
    return (clf.network.into(clf.normalize(x).flatten(1)) > 0).double()


def gradient_at(clf: Classifier, inputs: Tensor, target: int) -> Tensor:
    """Return the gradient of a class's logit by ordinary autograd."""
    place = inputs.detach().requires_grad_(True)
    return torch.autograd.grad(clf.logits(place)[:, target].sum(), place)[0]


@replicates("saliency")
def _saliency_by_finite_differences() -> None:
    clf = bound(DeepNet(), **COLOURS)
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
    clf = bound(LinearNet(), **COLOURS)
    x = images()
    weights = clf.network.fc.weight.reshape(4, 3, 8, 8)
    for steps in (1, 3, 50):
        found = METHODS.get("integrated-gradients").build(clf, steps=steps).attribute(x, 2)
        close(found, (clf.normalize(x) * weights[2]).sum(1))
        assert found.completeness is not None
        assert float(found.completeness.abs().max()) < 1e-12


@replicates("integrated-gradients")
def _integrated_gradients_by_a_fine_sum() -> None:
    clf = bound(DeepNet(), **COLOURS)
    x = images(2)
    inputs, steps = clf.normalize(x), 8
    black = clf.normalize(torch.zeros_like(x))
    total = torch.zeros_like(inputs)
    for m in range(steps):
        point = (black + (m + 0.5) / steps * (inputs - black)).requires_grad_(True)
        total += torch.autograd.grad(clf.logits(point)[:, 3].sum(), point)[0]
    found = METHODS.get("integrated-gradients").build(clf, steps=steps, baseline="black", channels=True).attribute(x, 3)
    close(found, (inputs - black) * total / steps)


@replicates("integrated-gradients")
def _gauss_legendre_is_exact_for_polynomials() -> None:
    """The score sum_i w_i (x_i^3 + x_i) has gradients of degree two: two points are enough, midpoints are not."""

    class Cubic(LinearNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x**3 + x)

    clf = bound(Cubic(), **COLOURS)
    x = images(2)
    inputs = clf.normalize(x)
    expected = clf.network.fc.weight.detach().reshape(4, 3, 8, 8)[1] * (inputs**3 + inputs)
    kind = METHODS.get("integrated-gradients")
    found = kind.build(clf, steps=2, quadrature="gauss-legendre", channels=True).attribute(x, 1)
    close(found, expected)
    rough = kind.build(clf, steps=2, channels=True).attribute(x, 1)
    assert float((rough.values - expected).abs().max()) > 0.01


@replicates("input-x-gradient")
def _input_x_gradient_in_closed_form() -> None:
    clf = bound(HiddenNet(), **COLOURS)
    x = images()
    first, second = clf.network.into.weight, clf.network.out.weight[2]
    expected = clf.normalize(x) * ((hidden(clf, x) * second) @ first).reshape(x.shape)
    close(METHODS.get("input-x-gradient").build(clf, channels=True).attribute(x, 2), expected)
    close(METHODS.get("input-x-gradient")(clf).attribute(x, 2), expected.sum(1))


@replicates("input-x-gradient")
def _input_x_gradient_sums_to_the_score_without_biases() -> None:
    clf = bound(GAPNet(bias=False))
    found = METHODS.get("input-x-gradient")(clf).attribute(images(), 1)
    close(found.values.sum((1, 2)), found.scores)


@replicates("guided-backprop")
def _guided_backprop_in_closed_form() -> None:
    clf = bound(HiddenNet(), **COLOURS)
    x = images()
    passed = hidden(clf, x) * clf.network.out.weight[2].relu()
    expected = (passed @ clf.network.into.weight).reshape(x.shape)
    close(METHODS.get("guided-backprop").build(clf, channels=True).attribute(x, 2), expected)


@replicates("deconvolution")
def _deconvolution_in_closed_form() -> None:
    clf = bound(HiddenNet(), **COLOURS)
    x = images()
    expected = (clf.network.out.weight[2].relu() @ clf.network.into.weight).reshape(1, 3, 8, 8).expand(3, 3, 8, 8)
    close(METHODS.get("deconvolution").build(clf, channels=True).attribute(x, 2), expected)


def _back_through_gapnet(clf: Classifier, x: Tensor, target: int, guided: bool) -> Tensor:
    """Return GAPNet's rectified gradient by transposed convolutions."""
    net = clf.network
    first = net.conv1(clf.normalize(x))
    second = net.conv2(first.relu())
    coming = net.fc.weight[target].reshape(1, -1, 1, 1).expand_as(second) / second[0, 0].numel()
    coming = coming.relu() * ((second > 0) if guided else 1)
    coming = F.conv_transpose2d(coming, net.conv2.weight, stride=2, padding=1, output_padding=1)
    coming = coming.relu() * ((first > 0) if guided else 1)
    return F.conv_transpose2d(coming, net.conv1.weight, padding=1)


@replicates("guided-backprop")
@replicates("deconvolution")
def _rectified_gradients_by_transposed_convolutions() -> None:
    clf = bound(GAPNet(), **COLOURS)
    x = images()
    for name in ("guided-backprop", "deconvolution"):
        expected = _back_through_gapnet(clf, x, 3, guided=name == "guided-backprop")
        close(METHODS.get(name).build(clf, channels=True).attribute(x, 3), expected)


@replicates("guided-grad-cam")
def _guided_grad_cam_from_its_two_factors() -> None:
    clf = bound(GAPNet(), **COLOURS)
    x = images()
    index = torch.tensor([0, 1, 2])
    activations, gradients = ordinary(clf, x, index, clf.network.conv1)
    cam = (gradients.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()
    guided = torch.cat([_back_through_gapnet(clf, x[i : i + 1], i, guided=True) for i in range(3)])
    close(METHODS.get("guided-grad-cam").build(clf, "conv1", channels=True).attribute(x, index), guided * cam)
    coarse = METHODS.get("guided-grad-cam").build(clf, "conv2").attribute(x, index)
    activations, gradients = ordinary(clf, x, index, clf.network.conv2)
    cam = (gradients.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()
    enlarged = F.interpolate(cam, size=(8, 8), mode="bilinear", align_corners=False)
    close(coarse, (guided * enlarged).sum(1))


def _noisy_gradients(clf: Classifier, x: Tensor, target: int, samples: int, level: float) -> Tensor:
    """Return gradients (samples, N, C, H, W) at noisy copies, drawn one by one."""
    inputs = clf.normalize(x)
    drawn = []
    for copy in range(samples):
        for image, content in zip(inputs, image_hashes(x), strict=True):
            stream = generator(0, content, "noise", str(copy))
            noise = torch.randn(image.shape, generator=stream)
            noisy = image + level * (image.max() - image.min()) * noise
            drawn.append(gradient_at(clf, noisy[None], target)[0])
    return torch.stack(drawn).reshape(samples, *x.shape)


@replicates("smooth-grad")
@replicates("smooth-grad-squared")
@replicates("var-grad")
def _moments_of_gradients_drawn_one_by_one() -> None:
    clf = bound(DeepNet(), **COLOURS)
    x = images(2)
    drawn = _noisy_gradients(clf, x, 1, 7, 0.3)
    options = {"samples": 7, "level": 0.3}
    close(METHODS.get("smooth-grad").build(clf, **options).attribute(x, 1), drawn.mean(0).sum(1))
    close(METHODS.get("smooth-grad-squared").build(clf, **options).attribute(x, 1), (drawn**2).mean(0).mean(1))
    close(METHODS.get("var-grad").build(clf, **options).attribute(x, 1), drawn.var(0).mean(1))
    biased = METHODS.get("var-grad").build(clf, **options, estimate="biased", channels=True)
    close(biased.attribute(x, 1), drawn.var(0, correction=0))


@replicates("for-grad")
def _filtered_by_matrices_of_waves() -> None:
    """Projection on all waves of the grid, in complex numbers, without a Fourier transform."""
    clf = bound(DeepNet(), **COLOURS)
    x = images(2)
    steps = torch.arange(8, dtype=torch.float64)
    waves = torch.exp(2j * torch.pi * steps[:, None] * steps / 8) / 8**0.5
    cycles = torch.minimum(steps, 8 - steps)
    for cutoff in (0.0, 1.0, 2.5):
        kept = (cycles[:, None] ** 2 + cycles**2 <= cutoff**2).to(waves)
        for base in ("saliency", "input-x-gradient"):
            maps = METHODS.get(base)(clf).attribute(x, 1).values.to(waves)
            amplitudes = torch.einsum("ya,nyx,xb->nab", waves.conj(), maps, waves.conj())
            expected = torch.einsum("ya,ab,nab,xb->nyx", waves, kept, amplitudes, waves)
            assert float(expected.imag.abs().max()) < 1e-12
            expected = expected.real.clamp(min=0) if base == "saliency" else expected.real
            close(METHODS.get("for-grad").build(clf, base=base, cutoff=cutoff).attribute(x, 1), expected)


def _gradients_by_noisy_weights(clf: Classifier, inputs: Tensor, seed: int) -> list[Tensor]:
    """Return the gradients of the logit of class 1 for two networks of noisy weights."""
    place, found = inputs.requires_grad_(True), []
    for number in range(2):
        weights = {}
        for name, weight in clf.network.named_parameters():
            stream = generator(seed, "noisy weights", name, str(number))
            weights[name] = weight.detach() * torch.normal(1.0, 0.3, weight.shape, generator=stream).to(weight)
        score = torch.func.functional_call(clf.network, weights, (place,))[:, 1].sum()
        found += torch.autograd.grad(score, place)
    return found


NOISY = {"networks": 2, "weight_level": 0.3, "channels": True}


@replicates("noise-grad")
def _gradients_of_the_network_called_with_other_weights() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(2)
    expected = _gradients_by_noisy_weights(clf, clf.normalize(x), 5)
    found = METHODS.get("noise-grad").build(clf, **NOISY).attribute(x, 1, seed=5)
    close(found, torch.stack(expected).mean(0), 1e-6)


@replicates("fusion-grad")
def _gradients_at_noisy_images_of_the_network_called_with_other_weights() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(2)
    sigma = clf.normalize(x).flatten(1).max(1).values - clf.normalize(x).flatten(1).min(1).values
    expected = []
    for copy in range(2):
        streams = [generator(5, content, "noise", str(copy)) for content in image_hashes(x)]
        noise = torch.stack([torch.randn(3, 8, 8, generator=stream) for stream in streams])
        moved = clf.normalize(x) + 0.1 * sigma[:, None, None, None] * noise
        expected += _gradients_by_noisy_weights(clf, moved, 5)
    found = METHODS.get("fusion-grad").build(clf, **NOISY, samples=2, level=0.1).attribute(x, 1, seed=5)
    close(found, torch.stack(expected).mean(0), 1e-6)


@replicates("noise-grad")
def _noisy_weights_of_a_linear_model_have_the_spread_asked_for() -> None:
    clf = bound(LinearNet())
    weight = clf.network.fc.weight[2].detach().reshape(3, 8, 8)
    found = METHODS.get("noise-grad").build(clf, networks=16, weight_level=0.1, channels=True).attribute(images(2), 2)
    deviations = (found.values / weight - 1) * 4 / 0.1  # of the mean of 16 factors, standard normal
    assert torch.equal(deviations[0], deviations[1])
    assert abs(float(deviations[0].mean())) < 4 / 192**0.5
    assert abs(float(deviations[0].var()) - 1) < 4 * (2 / 192) ** 0.5


@replicates("guided-integrated-gradients")
def _guided_integrated_gradients_one_image_at_a_time() -> None:
    clf = bound(DeepNet(), **COLOURS)
    x = images(2)
    inputs = clf.normalize(x)
    black = clf.normalize(torch.zeros_like(x))
    for reach, fraction in ((0.02, 0.25), (0.3, 0.1), (1.0, 0.5)):
        options = {"steps": 12, "reach": reach, "fraction": fraction, "baseline": "black", "channels": True}
        found = METHODS.get("guided-integrated-gradients").build(clf, **options).attribute(x, 3)
        for image in range(2):
            path = _guided_path(clf, inputs[image], black[image], 3, 12, fraction, reach)
            parts = [(end - start) * gradient_at(clf, start, 3) for start, end in pairwise(path)]
            close(found.values[image], torch.cat(parts).sum(0))


def _guided_path(
    clf: Classifier, end: Tensor, start: Tensor, target: int, steps: int, fraction: float, reach: float
) -> list[Tensor]:
    """Return the points (1, C, H, W) of the guided path, in pixels instead of progress, quantiles by NumPy."""
    end, start = end.numpy(), start.numpy()
    place = start.copy()
    path = [torch.from_numpy(start)[None]]
    for step in range(1, steps + 1):
        gradient = gradient_at(clf, torch.from_numpy(place)[None], target)[0].numpy()
        low, high = max(step / steps - reach, 0), min(step / steps + reach, 1)
        behind, ahead = start + low * (end - start), start + high * (end - start)
        left = (1 - step / steps) * np.abs(end - start).sum()
        late = (place - behind) * np.sign(end - start) < 0
        place[late] = behind[late]
        slope = np.where(np.isclose(place, ahead, rtol=0, atol=1e-13), np.inf, np.abs(gradient))
        while np.abs(end - place).sum() - left > 1e-10:
            chosen = (slope <= np.quantile(slope, fraction, method="lower")) & np.isfinite(slope)
            excess = np.abs(end - place).sum() - left
            share = min(1, excess / np.abs(ahead - place)[chosen].sum())
            place[chosen] += share * (ahead - place)[chosen]
            slope[chosen] = np.inf
        path.append(torch.from_numpy(place.copy())[None])
    assert np.allclose(place, end, rtol=0, atol=1e-9)
    return path


def _by_direction(clf: Classifier, path: list[Tensor], target: int) -> Tensor:
    """Return IDGI's values (N, C, H, W) on a path of images: each step's gain, split by squares of a unit vector."""
    scores = torch.stack([clf.logits(images)[:, target].detach() for images in path])
    units = torch.stack([F.normalize(gradient_at(clf, images, target).flatten(1)) for images in path[:-1]])
    return torch.einsum("tn,tnd->nd", scores.diff(dim=0), units**2).reshape(path[0].shape)


def _agrees_by_direction(name: str, clf: Classifier, x: Tensor, path: list[Tensor], **params: Any) -> None:
    options = {"steps": len(path) - 1, "weighting": "idgi", "channels": True}
    found = METHODS.get(name).build(clf, **options, **params).attribute(x, 3)
    close(found, _by_direction(clf, path, 3), 1e-9)


@replicates("integrated-gradients")
def _important_directions_on_a_straight_path() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(2)
    inputs, black = clf.normalize(x), clf.normalize(torch.zeros_like(x))
    path = [black + share * (inputs - black) for share in torch.linspace(0, 1, 7, dtype=torch.float64)]
    _agrees_by_direction("integrated-gradients", clf, x, path, baseline="black")


@replicates("blur-integrated-gradients")
def _important_directions_on_a_path_of_blurs() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(2)
    sigmas = [(0, 0, 2 - step / 3, 2 - step / 3) for step in range(7)]
    inputs = clf.normalize(x).numpy()
    path = [torch.from_numpy(gaussian_filter(inputs, sigma, mode="constant")) for sigma in sigmas]
    _agrees_by_direction("blur-integrated-gradients", clf, x, path, sigma=2)


@replicates("guided-integrated-gradients")
def _important_directions_on_a_guided_path() -> None:
    clf, x = bound(DeepNet(), **COLOURS), images(1)
    path = _guided_path(clf, clf.normalize(x)[0], clf.normalize(torch.zeros_like(x))[0], 3, 6, 0.25, 0.1)
    _agrees_by_direction("guided-integrated-gradients", clf, x, path, baseline="black", reach=0.1)


@replicates("blur-integrated-gradients")
def _blur_integrated_gradients_with_scipy() -> None:
    clf = bound(DeepNet(), **COLOURS)
    x = images(2)
    inputs, width = clf.normalize(x), 0.4
    for padding, mode in (("zero", "constant"), ("reflect", "reflect")):
        expected = torch.zeros_like(x)
        for step in range(5):
            sigmas = [(0, 0, step * width + more, step * width + more) for more in (0, 0.01)]
            now, then = (torch.from_numpy(gaussian_filter(inputs.numpy(), sigma, mode=mode)) for sigma in sigmas)
            expected -= width * gradient_at(clf, now, 2) * (then - now) / 0.01
        options = {"steps": 5, "sigma": 2, "padding": padding, "channels": True}
        close(METHODS.get("blur-integrated-gradients").build(clf, **options).attribute(x, 2), expected, 1e-9)
